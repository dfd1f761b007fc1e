"""What `eightfold submit` would call, word for word."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.commands import cli
from jobs.submit import main

ROOT = Path(__file__).parents[2]


def test_the_command_goes_to_the_cluster_with_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    words = ["--dry-run", "--address", "http://x:8265", "run", "demo", "--runs", "s3://b/runs", "--set", "seed=1"]
    done = CliRunner().invoke(cli, ["submit", *words])
    assert done.exit_code == 0, done.output
    sent = "ray job submit --address http://x:8265 --working-dir . --runtime-env jobs/runtime_env.yaml -- "
    assert done.output.split() == (sent + "python -m jobs run demo --runs s3://b/runs --set seed=1").split()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say what to send"),
        (["rnu", "demo"], "rnu: nothing to send to a cluster (did you mean 'run'?)"),
        (["view", "runs/demo"], "view: nothing to send to a cluster"),
    ],
)
def test_what_makes_no_sense_there(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dry-run", *words]) == 2
    assert said in capsys.readouterr().err


def test_elsewhere_there_is_nothing_to_send(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--dry-run", "run", "demo"]) == 2
    assert "in the folder of the checkout" in capsys.readouterr().err
