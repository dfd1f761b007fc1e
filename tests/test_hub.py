"""Hub names against a server that plays the hub: commits in keys and manifests, kept for the life of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from app.hub import pinned
from app.recipe import Recipe

OLD, NEW = "a" * 40, "b" * 40
PARTS = {"train": 4, "test": 2}


class Hub(HTTPServer):
    """Knows one model and one data set, whose branches are at `sha`."""

    sha = OLD
    files: tuple[str, ...] = ("config.json", "model.safetensors")  # of both
    asked: list[str]
    environment: dict[str, str]  # of processes that ask it, whose copies lie in a folder of their own


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        known = "/some/model" in self.path or "/some/data" in self.path
        files = [{"rfilename": name} for name in self.server.files]
        body = json.dumps({"id": "some/model", "sha": self.server.sha, "siblings": files} if known else {}).encode()
        self.send_response(200 if known else 404)
        if not known:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def playing(home: Path) -> Iterator[Hub]:
    hub = Hub(("127.0.0.1", 0), Answers)
    hub.asked = []
    hub.environment = os.environ | {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HOME": str(home)}
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with playing(tmp_path / "hub") as one:
        yield one


def job(hub: Hub, *arguments: str, offline: bool = False) -> subprocess.CompletedProcess[str]:
    """A job as users start it, in a process whose hub is ours."""
    environment = hub.environment | {"HF_HUB_OFFLINE": str(int(offline))}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def recipe(folder: Path, **parts: object) -> str:
    file = folder / "recipe.yaml"
    body = {"name": "test", "model": {"path": "some/model"}, "problems": PARTS | {"validation": 0}, **parts}
    file.write_text(json.dumps(body))
    return str(file)


def test_the_plan_names_another_stage_when_the_branch_moved(hub: Hub, tmp_path: Path) -> None:
    arguments = ("jobs.run", recipe(tmp_path), "--plan", "--runs", str(tmp_path / "runs"))
    before = job(hub, *arguments)
    assert before.returncode == 0, before.stderr
    assert job(hub, *arguments).stdout == before.stdout
    hub.sha = NEW
    assert job(hub, *arguments).stdout != before.stdout
    assert not (tmp_path / "runs").exists()  # a plan writes nothing


@pytest.mark.slow
def test_a_run_keeps_the_commits_that_it_began_with(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends where it loads the data set, which is not really there; what it began with is there by then."""
    source = {"kind": "hub", "name": "some/data", "revision": "v1"}
    file = recipe(tmp_path, problems=PARTS | {"source": source})
    arguments = ("jobs.run", file, "--runs", str(tmp_path / "runs"))
    assert "cannot load split" in job(hub, *arguments).stderr
    hub.sha = NEW
    asked = len(hub.asked)
    assert "cannot load split" in job(hub, *arguments).stderr
    assert not [path for path in hub.asked[asked:] if path.endswith("revision/v1")]
    kept = json.loads((tmp_path / "runs/test/recipe.json").read_text())
    assert (kept["model"]["revision"], kept["problems"]["source"]["revision"]) == (OLD, OLD)
    known = json.loads((tmp_path / "runs/test/commits.json").read_text())
    assert known == {"model some/model@main": OLD, "dataset some/data@v1": OLD}


def test_the_base_in_the_settings_of_stages_is_a_commit(hub: Hub, tmp_path: Path) -> None:
    code = (
        "import sys, json; from app.graph import build; from app.hub import pinned; from app.recipe import load;"
        "stages = build(pinned(load(sys.argv[1]), sys.argv[2]));"
        "print(next(s for s in stages if s.name == 'evaluation/base').settings['base'])"
    )
    command = [sys.executable, "-c", code, recipe(tmp_path), str(tmp_path / "runs/test")]
    done = subprocess.run(command, env=hub.environment, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == f"some/model@{OLD}"


def test_a_name_that_the_hub_does_not_know_is_one_error(hub: Hub, tmp_path: Path) -> None:
    file = recipe(tmp_path, model={"path": "nobody/nothing"})
    for offline in (False, True):
        done = job(hub, "jobs.run", file, "--plan", "--runs", str(tmp_path), offline=offline)
        assert done.returncode == 2
        assert done.stderr.startswith("error: model.path: cannot resolve model nobody/nothing@main: ")
        assert "give a folder or a hub name" in done.stderr and "Traceback" not in done.stderr


PICKLES = ("config.json", "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")


@pytest.mark.parametrize("revision", [None, OLD])
def test_weights_that_are_pickles_are_refused_before_anything_runs(
    hub: Hub, tmp_path: Path, revision: str | None
) -> None:
    hub.files = PICKLES
    file = recipe(tmp_path, model={"path": "some/model", "revision": revision})
    for more in ((), ("--plan",)):
        done = job(hub, "jobs.run", file, "--runs", str(tmp_path / "runs"), *more)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: some/model: its weights are pickles ({PICKLES[1]})")
        assert "convert them once" in done.stderr and "Traceback" not in done.stderr
    hub.files = (*PICKLES, "model.safetensors.index.json")
    assert job(hub, "jobs.run", file, "--plan", "--runs", str(tmp_path / "runs")).returncode == 0


def test_pickles_in_this_machines_copy_are_refused_too(hub: Hub, tmp_path: Path) -> None:
    copy = Path(hub.environment["HF_HOME"]) / "hub/models--some--model"
    for name in PICKLES:
        file = copy / "snapshots" / OLD / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (copy / "refs").mkdir()
    (copy / "refs/main").write_text(OLD)
    done = job(hub, "jobs.run", recipe(tmp_path), "--plan", "--runs", str(tmp_path), offline=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: some/model: its weights are pickles ({PICKLES[1]})")


def test_folders_and_commits_need_no_look_up(tmp_path: Path) -> None:
    """There is no hub to ask here: a look-up fails."""
    (tmp_path / "weights").mkdir()
    for model in ({"path": "world"}, {"path": str(tmp_path / "weights")}, {"path": "x/y", "revision": NEW}):
        own = Recipe.model_validate({"name": "t", "model": model, "problems": PARTS | {"validation": 0}})
        assert pinned(own, str(tmp_path / "run")) == own
