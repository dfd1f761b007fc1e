"""Giving away what a run made: folders that load by themselves, and a server that plays the hub."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import datasets
import pytest
import yaml

from app.datasets.export import export, trl_table
from app.graph import build
from app.named import name_all
from app.plan import plan
from app.policy import WORLD_MODEL, check_folder
from app.recipe import Recipe
from app.records import PreferencePair
from app.release import things
from jobs.export import main
from tests.runs import TINY

PAIR = PreferencePair("i", "p", "c", "r", [1, 2], 0, [3], [4], "2 + 2\n", "4", "5")
CARD = """---
base_model: "/home/someone/models/own"
library_name: transformers
---

| Start weights | `/home/someone/models/own`, fingerprint `f` |
| Data set | stage `datasets/sft`, key `a/b` |
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run whose models are trained and whose data sets are built, as far as their files tell."""
    root = tmp_path / "runs" / "tiny"
    recipe = Recipe.model_validate(TINY)
    for step in plan(build(recipe), str(root)):
        output, inputs = step.output, {}
        if step.stage.kind == "training":
            shutil.copytree(WORLD_MODEL, output.local("model"))
            (output.local("model") / "README.md").write_text(CARD)
            inputs = {"dataset": f"datasets/{step.stage.name.partition('/')[2]}"}
        elif step.stage.kind == "datasets":
            table = PreferencePair.table([PAIR, PAIR])
            export(output, trl_table(table))
            output.write_shard(0, table)
        else:
            continue
        keys = {one.stage.name: one.output.key for one in plan(build(recipe), str(root))}
        manifest = {"counts": {"pairs": 2}, "settings": {"train": "/home/someone/x.jsonl"}, "finished": "2026"}
        links = {"inputs": {role: keys[name] for role, name in inputs.items()}, "folders": inputs}
        output.finish(manifest | links | {"shards": 1, "revision": step.stage.revision})
    name_all(recipe, str(root), plan(build(recipe), str(root)))
    return root


def test_a_folder_each_that_loads_by_itself(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(root), "--to", str(tmp_path / "given")]) == 0
    given = tmp_path / "given"
    assert sorted(str(path.relative_to(given)) for path in given.glob("*/*")) == sorted(things(str(root)))
    assert f"models/sft: {given / 'models/sft'}" in capsys.readouterr().out
    shutil.rmtree(root)
    check_folder(str(given / "models/sft"))
    facts = yaml.safe_load((given / "models/sft/README.md").read_text().split("---\n")[1])
    assert facts == {"library_name": "transformers"}
    rows = datasets.load_dataset(str(given / "data/step_dpo"), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows[:2] == {"prompt": ["2 + 2\n"] * 2, "chosen": ["4"] * 2, "rejected": ["5"] * 2}
    ids = datasets.load_dataset(
        str(given / "data/step_dpo"), "token_ids", split="train", cache_dir=str(tmp_path / "cache")
    )
    assert ids["chosen_token_ids"][0] == [3]


def test_cards_carry_the_lineage_and_no_folder_of_this_machine(root: Path, tmp_path: Path) -> None:
    assert main([str(root), "models/step_dpo", "data/step_dpo", "--to", str(tmp_path / "given")]) == 0
    found = things(str(root))
    behind = json.loads((tmp_path / "given/models/step_dpo/lineage.json").read_text())
    labels = [f"{found[name].output.stage}/{found[name].output.key}" for name in ("models/step_dpo", "data/step_dpo")]
    assert list(behind) == labels
    card = (tmp_path / "given/data/step_dpo/README.md").read_text()
    assert "| Rows | 2 (2 pairs) |" in card and f"key `{found['data/step_dpo'].output.key}`" in card
    model = (tmp_path / "given/models/step_dpo/README.md").read_text()
    assert "`own`, fingerprint `f`" in model and "stage `datasets/sft`, key `a/b`" in model
    texts = [path.read_text() for path in (tmp_path / "given").rglob("*") if path.name in ("README.md", "lineage.json")]
    assert len(texts) == 4 and not [text for text in texts if "/home" in text or str(tmp_path) in text]


def test_what_fails_leaves_no_folder(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = things(str(root))
    Path(found["data/sft"].output.shard_path(0, "trl")).unlink()
    (found["models/sft"].output.local("model") / "README.md").unlink()
    assert main([str(root), "data/sft", "--to", str(tmp_path / "given")]) == 2
    assert "data/sft: has no file with TRL's columns" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError):
        main([str(root), "models/sft", "--to", str(tmp_path / "given")])
    assert not list((tmp_path / "given").glob("*/*"))


def test_what_training_wrote_without_a_recipe_is_found_too(root: Path) -> None:
    named = set(things(str(root)))
    (root / "index.json").unlink()
    assert set(things(str(root))) == named == {"models/sft", "models/step_dpo", "data/sft", "data/step_dpo"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["models/stf", "--to", "given"], "models/stf: not in {root} (did you mean 'models/sft'?)"),
        ([], "say where to: --to FOLDER, or --to-hub OWNER/NAME"),
        (["--to-hub", "name"], "--to-hub name: give OWNER/NAME"),
        (["models/sft", "--to", "{root}"], "{root}/models/sft: is there already; give another folder"),
    ],
)
def test_faults_are_one_line(root: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(root), *(word.format(root=root) for word in words)]) == 2
    assert capsys.readouterr().err.startswith("error: " + says.format(root=root))


def test_an_adapter_of_a_local_model_and_a_kept_start_cannot_stand_alone(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = things(str(root))
    model = found["models/sft"].output.local("model")
    (model / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(WORLD_MODEL)}))
    (found["models/step_dpo"].output.local() / "start.json").write_text(json.dumps({"path": "x", "fingerprint": "f"}))
    for name, says in (("sft", "an adapter of a model that is on no hub"), ("step_dpo", "training kept the model")):
        assert main([str(root), f"models/{name}", "--to", str(root / "given")]) == 2
        assert says in capsys.readouterr().err
    assert not (root / "given").exists()


class Hub(ThreadingHTTPServer):
    """Takes repositories and what is uploaded to them."""

    made: list[dict[str, object]]
    files: dict[str, dict[str, bytes]]  # by repository
    refuses = False


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.refuses:
            return self.say(401, {"error": "Invalid credentials"})
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            self.server.made.append(asked)
            kind = "datasets/" if asked["type"] == "dataset" else ""
            return self.say(
                200, {"url": f"http://{self.headers['Host']}/{kind}{asked['organization']}/{asked['name']}"}
            )
        if self.path.endswith("/preupload/main"):
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]
            return self.say(200, {"files": files})
        if self.path.endswith("/commit/main"):
            lines = [json.loads(line) for line in body.splitlines()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            self.server.files[self.path.removeprefix("/api/").removesuffix("/commit/main")] = files
            return self.say(
                200, {"commitUrl": f"http://{self.headers['Host']}/me/x/commit/{'a' * 40}", "commitOid": "a" * 40}
            )
        return self.say(200, {})

    def do_GET(self) -> None:
        self.say(401 if self.server.refuses else 404, {})

    def say(self, status: int, body: dict[str, object]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub(("127.0.0.1", 0), Answers)
    server.made, server.files = [], {}
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def give(hub: Hub, root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The job in a process whose hub is ours."""
    home = str(root.parent / "hub")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HOME": home, "HF_TOKEN": "hf_x"}
    command = [sys.executable, "-m", "jobs.export", str(root), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_a_hub_gets_models_and_data_sets_with_their_cards(hub: Hub, root: Path) -> None:
    done = give(hub, root, "models/sft", "data/step_dpo", "--to-hub", "me/tiny")
    assert done.returncode == 0, done.stderr
    assert [(made["name"], made["visibility"]) for made in hub.made] == [
        ("tiny-sft", "private"),
        ("tiny-step_dpo", "private"),
    ]
    model, data = hub.files["models/me/tiny-sft"], hub.files["datasets/me/tiny-step_dpo"]
    weights = things(str(root))["models/sft"].output.local("model") / "model.safetensors"
    assert model["model.safetensors"] == weights.read_bytes() and b"/home" not in model["README.md"]
    assert set(data) == {"README.md", "lineage.json", "train.parquet", "token_ids/part-00000.parquet"}
    assert "datasets/me/tiny-step_dpo" in done.stdout


def test_one_thing_has_the_name_as_given_and_a_refusal_is_one_line(hub: Hub, root: Path) -> None:
    assert give(hub, root, "models/sft", "--to-hub", "me/mine", "--public").returncode == 0
    assert (hub.made[0]["name"], hub.made[0]["visibility"]) == ("mine", "public")
    hub.refuses = True
    done = give(hub, root, "models/sft", "--to-hub", "me/mine")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "error: models/sft: cannot upload to me/mine: " in done.stderr and "hf auth login" in done.stderr
