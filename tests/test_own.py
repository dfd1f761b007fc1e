"""docs/own.md: its commands are understood, and do what it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from jobs.commands import cli
from tests.given.student_engine import traces

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "own.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [line for kind, body in BLOCKS if kind == "sh" for line in body.splitlines()]
LIGHT = ("init", "plan", "verify")  # need no engine


def files(folder: Path) -> None:
    """What the page takes as given, and its own verifier."""
    rows = traces(problems=6, each=3)
    known = {row["prompt"].strip(): row for row in rows}
    problems = [
        {"question": q, "answer": f"{row['completion'].rpartition('####')[0]}#### {row['answer']}"}
        for q, row in known.items()
    ]
    for name, part in (("train", problems[:4]), ("test", problems[4:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    (folder / "traces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    examples = [{"prompt": row["prompt"], "completion": row["completion"]} for row in rows]
    (folder / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in examples))
    [grader] = [body for kind, body in BLOCKS if kind == "python" and "class Grader" in body]
    (folder / "my_grader.py").write_text(grader)


def run(command: str, folder: Path) -> str:
    words = [sys.executable, "-m", "jobs", *shlex.split(command)[1:]]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_is_understood(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    word, *rest = shlex.split(command)[1:]
    heard: list[list[str]] = []
    job = "run" if word == "plan" else word
    monkeypatch.setattr(f"jobs.{job}.main", lambda given: heard.append(given) or 0)
    assert CliRunner().invoke(cli, [word, *rest]).exit_code == 0
    assert len(heard) == 1


def test_the_commands_without_an_engine_do_what_it_says(tmp_path: Path) -> None:
    files(tmp_path)
    for command in [line for line in COMMANDS if line.split()[1] in LIGHT]:
        run(command, tmp_path)
    judged = [json.loads(line) for line in (tmp_path / "judged.jsonl").read_text().splitlines()]
    own = [json.loads(line) for line in (tmp_path / "own.jsonl").read_text().splitlines()]
    assert [row["outcome"] for row in judged] == [row["outcome"] for row in own]
    assert {row["tier"] for row in own} == {"own"}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_commands_do_what_it_says(tmp_path: Path) -> None:
    files(tmp_path)
    for command in COMMANDS:
        run(command, tmp_path)
        recipe = tmp_path / "mine.yaml"
        if command.split()[1] == "init":  # small: a few steps of few tokens
            body = yaml.safe_load(recipe.read_text())
            body["training"] |= {"batch": 4, "max_length": 256}
            body["placement"]["sampling"] |= {"max_model_len": 256, "kv_cache_gib": 0.25}
            for part in ("sampling", "credit", "evaluation"):
                body[part]["max_tokens"] = 64
            recipe.write_text(yaml.safe_dump(body))
    made = tmp_path / "runs" / "mine"
    assert (made / "models" / "step_dpo" / "config.json").is_file() and (made / "data" / "step_dpo.jsonl").is_file()
    for name in ("values.jsonl", "pits.jsonl", "pairs.jsonl", "prm.jsonl"):
        assert (tmp_path / "credit" / name).stat().st_size
    assert list(tmp_path.glob("trained/training/step_dpo/*/model/model.safetensors"))
