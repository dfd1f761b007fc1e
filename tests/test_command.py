"""The command `eightfold`: each of its words calls a job, with the job's own options."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import jobs.__main__
from jobs.commands import cli

ROOT = Path(__file__).parents[1]
JOBS = [
    "run",
    "status",
    "estimate",
    "curve",
    "study",
    "check",
    "verify",
    "credit",
    "train",
    "view",
    "compare",
    "init",
    "submit",
    "export",
    "tune",
]
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


@pytest.fixture
def said() -> Callable[..., str]:
    """What the command prints, wide enough that no line is broken."""

    def say(*words: str) -> str:
        wide = {"COLUMNS": "200", "TERMINAL_WIDTH": "200"}
        done = CliRunner(env=wide).invoke(cli, list(words), prog_name="eightfold")
        assert done.exit_code == 0, done.output
        return re.sub(r"\x1b\[[\d;]*m", "", done.output)

    return say


def flags_of(job: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    with pytest.raises(SystemExit):
        import_module(f"jobs.{job}").main(["--help"])
    return set(FLAG.findall(capsys.readouterr().out))


@pytest.mark.parametrize("job", JOBS)
def test_a_command_has_the_options_of_its_job(
    job: str, said: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = flags_of(job, capsys)
    ours = set(FLAG.findall(said(job, "--help").partition("Options")[2]))
    hidden = {"--plan"} if job == "run" else set()  # plan is a command
    assert ours - {"--help"} == theirs - {"--help"} - hidden


def test_options_reach_the_job_as_they_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[list[str]] = []
    monkeypatch.setattr("jobs.run.main", lambda given: heard.append(given) or 3)
    words = ["run", "demo", "--set", "seed=1", "--set", "sampling.samples=4", "--only", "sampling"]
    assert CliRunner().invoke(cli, words).exit_code == 3
    assert CliRunner().invoke(cli, ["plan", "demo", "--runs", "there"]).exit_code == 3
    assert heard == [
        ["--set=seed=1", "--set=sampling.samples=4", "--only=sampling", "--runs=runs", "demo"],
        ["--plan", "--runs=there", "demo"],
    ]


def test_init_asks_for_what_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[list[str]] = []
    monkeypatch.setattr("jobs.init.main", lambda given: heard.append(given) or 0)
    done = CliRunner().invoke(cli, ["init", "--test", "b.jsonl"], input="world\na.jsonl\n")
    assert done.exit_code == 0 and "Training problems (JSONL" in done.output
    assert heard[0][:3] == ["--model=world", "--train=a.jsonl", "--test=b.jsonl"]
    assert CliRunner().invoke(cli, ["init"], input="").exit_code == 1 and len(heard) == 1


def test_help_has_every_command_with_an_example(said: Callable[..., str]) -> None:
    overview = said("--help")
    for name in typer.main.get_command(cli).commands:  # type: ignore[attr-defined]
        assert re.search(rf"^│ {name} ", overview, re.MULTILINE), name
        assert f"eightfold {name}" in said(name, "--help").partition("Usage")[2].partition("\n")[2], name


def test_a_mistyped_command_is_named_with_the_nearest() -> None:
    done = CliRunner().invoke(cli, ["stauts", "runs/demo"])
    assert done.exit_code == 2 and "status" in done.output


def test_the_script_is_this_and_the_shell_completes_recipes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"eightfold": "jobs.__main__:main"} and jobs.__main__.main
    asked = {jobs.__main__.COMPLETING: "complete_bash", "COMP_WORDS": "eightfold run gsm", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-m", "jobs"], cwd=ROOT, env=os.environ | asked, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["gsm8k_deepseek7b", "gsm8k_smollm"], done.stderr


def test_it_keeps_the_exit_code_of_the_job() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "status", "runs/no-such"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2 and "error: runs/no-such: no such run" in done.stderr


GRADER = """from app.records import Verdict


class Grader:
    def fingerprint(self): return "mine-1"
    def equivalent(self, reference, answer): return reference == answer
    async def judge(self, problem, text, finish_reason):
        return Verdict("", "correct" if text == problem.answer else "incorrect", text, "own", "own", 0.0)
"""


def test_modules_of_the_working_directory_are_found_and_others_are_one_error(tmp_path: Path) -> None:
    """A script has its own folder where `python -m` has the working directory: -P is like it."""
    (tmp_path / "grader.py").write_text(GRADER)
    (tmp_path / "traces.jsonl").write_text('{"reference": "7", "text": "7"}\n')
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def verify(name: str) -> subprocess.CompletedProcess[str]:
        code = f"import sys; sys.path.append({str(ROOT)!r}); from jobs.__main__ import main; main()"
        words = [sys.executable, "-P", "-c", code, "verify", "--traces=traces.jsonl", "--out=out.jsonl"]
        return subprocess.run(
            [*words, f"--verifier={name}"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )

    done = verify("grader:Grader")
    assert done.returncode == 0, done.stderr
    assert '"outcome": "correct"' in (tmp_path / "out.jsonl").read_text()
    done = verify("grdaer:Grader")
    assert done.returncode == 2 and done.stderr.startswith("error: verification.verifier: grdaer:Grader cannot be made")
