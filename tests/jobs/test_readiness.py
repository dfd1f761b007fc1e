"""What plan and run say before anything starts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.policy import WORLD_MODEL
from jobs import readiness
from jobs.run import main

ROOT = Path(__file__).parents[2]
RECIPE = {
    "name": "mine",
    "problems": {"source": {"kind": "file", "train": "train.jsonl", "test": "test.jsonl", "answer_format": "plain"}},
    "runs": {"rft": {"method": "rft", "teacher": False, "samples": "base", "steps": 2}},
    "sampling": {"samples": 2},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with problem files."""
    monkeypatch.chdir(tmp_path)
    for name in ("train", "test"):
        rows = [{"question": f"{name} {n} + 1?", "answer": str(n + 1)} for n in range(3)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def model(folder: Path) -> Path:
    shutil.copytree(WORLD_MODEL, folder / "model")
    return folder / "model"


def say(capsys: pytest.CaptureFixture[str], *flags: str, **parts: Any) -> tuple[int, str]:
    Path("mine.yaml").write_text(yaml.safe_dump(RECIPE | parts))
    code = main(["mine.yaml", *flags])
    told = capsys.readouterr()
    return code, told.out + told.err


def test_a_plan_says_what_is_ready(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = say(capsys, "--plan")
    assert code == 0 and "3 train" in said and "3 test" in said and "free under" in said and "FAIL" not in said


def test_a_bad_row_of_the_problems_stops_a_run_before_it_starts(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / "train.jsonl").open("a") as file:
        file.write('{"question": "2?", "anwser": "2"}\n')
    code, said = say(capsys)
    assert code == 2 and "nothing was started: problems: train.jsonl:4: no field 'answer' (did you mean" in said
    code, said = say(capsys, "--plan")
    assert code == 0 and "FAIL  problems: train.jsonl:4" in said


def test_a_tokenizer_without_an_end_and_a_missing_template(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = say(capsys, model={"path": "./model"}, rendering={"template": "chat"})
    assert code == 2 and "template: rendering.template is chat, but ./model has no chat template" in said
    file = model / "tokenizer_config.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "eos_token"}))
    (model / "special_tokens_map.json").unlink(missing_ok=True)
    code, said = say(capsys, model={"path": "./model"})
    assert code == 2 and "tokenizer: ./model: tokenizer_config.json names no eos_token" in said


def test_a_tokenizer_whose_class_has_an_end_is_not_refused(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """GPT-2's folder names none: its class does."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {sign: n for n, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    own = Tokenizer(models.BPE(vocabulary | {"<|endoftext|>": 256}, []))
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.save(str(model / "tokenizer.json"))
    (model / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    (model / "special_tokens_map.json").unlink(missing_ok=True)
    code, said = say(capsys, "--plan", model={"path": "./model"})
    assert code == 0 and "eos_token" not in said


def test_a_full_disk(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(readiness.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10**6))
    code, said = say(capsys)
    assert code == 2 and "disk: 1.0 MiB free under" in said and "1 models take" in said


def test_gpus_that_this_machine_has_not(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    place = {"training": {"gpus": 1, "workers": 4}, "sampling": {"gpus": 1, "actors": 8}}
    code, said = say(capsys, placement=place)
    assert code == 2 and "training asks for 4 GPUs and this machine has 2" in said
    assert "sampling asks" not in said  # two of the eight engines do the same work, later
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert "GPUs" not in say(capsys, "--plan", placement=place)[1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("demoo", "error: demoo: no recipe of that name (did you mean 'demo'?); or give a recipe's file"),
        ("gsm8k", "(did you mean 'gsm8k_smollm'?)"),
        ("demo.yml", "error: demo.yml: no such recipe file"),
    ],
)
def test_a_mistyped_recipe(name: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--plan"]) == 2
    told = capsys.readouterr().err
    assert said in told and ".pre-commit" not in told and "cluster.yaml" not in told


def test_checks_import_no_engine(folder: Path) -> None:
    Path("mine.yaml").write_text(yaml.safe_dump(RECIPE))
    code = (
        "import sys; from jobs.run import main; assert main(['mine.yaml', '--plan']) == 0; "
        "print([m for m in ('ray', 'torch', 'vllm', 'transformers', 'deepspeed') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
