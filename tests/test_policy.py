"""Model folders: what is missing is named before an engine starts; fingerprints follow the files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.errors import UserError
from app.policy import WORLD_MODEL, Policy, base_facts, base_policy, folder_fingerprint, trained_policy
from app.remote_folder import Folder
from app.settings import ModelSettings
from app.store import Output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WORLD_MODEL, tmp_path / "model"))


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("config.json", "not a model folder: config.json is missing"),
        ("model.safetensors", "no *.safetensors weights"),
        ("tokenizer.json", "no tokenizer files"),
    ],
)
def test_a_missing_file_is_named(folder: Path, file: str, says: str) -> None:
    (folder / file).unlink()
    with pytest.raises(UserError) as caught:
        base_policy(ModelSettings(path=str(folder)))
    assert says in str(caught.value)
    assert str(folder) in str(caught.value)


def test_pickles_are_refused_and_converted_by_the_command_that_the_error_gives(folder: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    assert base_policy(ModelSettings(path=str(folder))).path == str(folder)  # safetensors beside them are enough
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    with pytest.raises(UserError, match=r"its weights are pickles \(pytorch_model.bin\)") as caught:
        base_policy(ModelSettings(path=str(folder)))
    command = str(caught.value).splitlines()[-1].replace("python ", f"{sys.executable} ", 1)
    subprocess.run(command, shell=True, cwd=tmp_path, check=True, timeout=300)
    base_policy(ModelSettings(path=str(tmp_path / "converted")))
    converted = load_file(tmp_path / "converted/model.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in converted.items())


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="model.path: no such folder"):
        base_policy(ModelSettings(path=str(tmp_path / "nowhere")))


def test_a_hub_name_is_named_with_its_revision() -> None:
    policy = base_policy(ModelSettings(path="someone/model", revision="abc"))
    assert policy == Policy("someone/model", "someone/model@abc")


def test_moving_a_folder_keeps_its_fingerprint_and_editing_it_does_not(folder: Path) -> None:
    before = folder_fingerprint(str(folder))
    assert before == folder_fingerprint(str(WORLD_MODEL))
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    assert folder_fingerprint(str(folder)) != before


def test_trained_weights_are_known_by_their_stage(tmp_path: Path) -> None:
    output = Output(str(tmp_path), "training/sft", "k" * 16)
    assert trained_policy(output) == Policy(str(tmp_path / "training/sft" / ("k" * 16) / "model"), "k" * 16)


def adapter(tmp_path: Path, base: str | None, fingerprint: str | None = None) -> Output:
    """A training stage's output whose model is an adapter of `base`."""
    output = Output(str(tmp_path), "training/dpo", "d" * 16)
    folder = output.local("model")
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base, "r": 8}))
    if fingerprint:
        (folder / "base.json").write_text(json.dumps({"fingerprint": fingerprint}))
    return output


def test_an_adapter_is_served_on_the_model_it_adapts(folder: Path, tmp_path: Path) -> None:
    output = adapter(tmp_path, str(folder), folder_fingerprint(str(folder)))
    assert trained_policy(output) == Policy(str(folder), "d" * 16, str(output.local("model")))


def test_an_adapter_of_a_hub_model_names_it(tmp_path: Path) -> None:
    assert trained_policy(adapter(tmp_path, "someone/model")).path == "someone/model"


def test_an_adapter_of_other_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not the weights that .* was trained on"):
        trained_policy(adapter(tmp_path, str(folder), "0" * 16))


def test_an_adapter_of_a_stage_finds_it_wherever_the_run_is(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    start = Output(str(runs), "training/sft", "s" * 16)
    shutil.copytree(WORLD_MODEL, start.local("model"))
    output = adapter(runs, str(start.local("model")))
    facts = base_facts(trained_policy(start), start)
    (output.local("model") / "base.json").write_text(json.dumps(facts))
    assert trained_policy(output).path == str(start.local("model"))
    moved = runs.rename(tmp_path / "moved")
    assert trained_policy(Output(str(moved), output.stage, output.key)) == Policy(
        str(moved / "training" / "sft" / ("s" * 16) / "model"),
        "d" * 16,
        str(moved / "training" / "dpo" / ("d" * 16) / "model"),
    )


def test_what_an_adapter_says_of_a_base_that_no_stage_wrote(folder: Path) -> None:
    assert base_facts(base_policy(ModelSettings(path=str(folder))), None) == {
        "fingerprint": folder_fingerprint(str(folder))
    }
    assert base_facts(base_policy(ModelSettings(path="someone/model")), None) == {}


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("../../../sft/s/model", "file://{root}/training/sft/s/model"),
        ("s3://elsewhere/model", "s3://elsewhere/model"),
        ("someone/model", "someone/model"),
    ],
)
def test_an_adapter_at_a_uri_names_its_base_from_there(tmp_path: Path, base: str, path: str) -> None:
    adapter(tmp_path, base)
    output = Output(f"file://{tmp_path}", "training/dpo", "d" * 16)
    assert trained_policy(output) == Policy(path.format(root=tmp_path), "d" * 16, f"{output.uri}/model")


def test_weights_at_a_uri_are_loaded_from_this_nodes_copy(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EIGHTFOLD_CACHE", str(tmp_path / "cache"))
    output = Output(f"file://{tmp_path}/far", "training/sft", "k" * 16)
    stored = Folder(f"{output.uri}/model")
    with pytest.raises(UserError, match=f"{stored.uri}: no folder with its complete.json there"):
        trained_policy(output).here()
    stored.commit({"files": stored.put(folder)})
    policy = trained_policy(output)
    assert policy == Policy(stored.uri, "k" * 16)
    assert policy.here().path.startswith(str(tmp_path / "cache"))
    assert folder_fingerprint(policy.here().path) == folder_fingerprint(str(folder))
    assert Policy(str(folder), "f").here() == Policy(str(folder), "f")


@pytest.mark.parametrize(
    ("base", "says"), [(None, "base_model_name_or_path is missing"), ("./gone", "no such folder: ./gone")]
)
def test_an_adapter_without_its_base_says_what_is_missing(tmp_path: Path, base: str | None, says: str) -> None:
    with pytest.raises(UserError, match=says):
        trained_policy(adapter(tmp_path, base))
