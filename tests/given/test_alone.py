"""Credit and training alone, on files that others wrote, through the jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.policy import check_folder
from jobs import credit, train
from tests.given.student_engine import traces

ENGINE = ["placement.sampling.backend=tests.given.student_engine:create", "placement.sampling.max_model_len=256"]


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def settings(*pairs: str) -> list[str]:
    return [f"--set={pair}" for pair in pairs]


def test_credit_finds_pits_and_training_takes_its_pairs(
    ray_local: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = traces(problems=4, each=3)
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["--traces", str(tmp_path / "t.jsonl"), "--model", "world", "--out", str(tmp_path / "c")]
    given += settings(*ENGINE, "credit.rollouts=4", "credit.max_tokens=64")
    assert credit.main(given) == 0, capsys.readouterr().err
    values, pits = lines(tmp_path / "c" / "values.jsonl"), lines(tmp_path / "c" / "pits.jsonl")
    assert {line["completion"] for line in values} == {row["completion"] for row in rows}
    for line in values:
        right = line["completion"].endswith(f"#### {line['answer']}")
        assert line["outcome"] == ("correct" if right else "incorrect")
        if line["steps"]:
            assert "".join(step["text"] for step in line["steps"]) == line["completion"]
    assert pits and all(pit["prefix"] + pit["text"] for pit in pits)
    pairs = lines(tmp_path / "c" / "pairs.jsonl")
    assert pairs and {"prompt", "chosen", "rejected"} <= pairs[0].keys()
    before = (tmp_path / "c" / "values.jsonl").read_bytes()
    capsys.readouterr()
    assert credit.main(given) == 0
    assert "done in" not in capsys.readouterr().err  # every stage was there
    assert (tmp_path / "c" / "values.jsonl").read_bytes() == before

    asked = ["step_dpo", "--pairs", str(tmp_path / "c" / "pairs.parquet"), "--model", "world"]
    asked += ["--out", str(tmp_path / "m"), *settings("steps=1", "batch=2", "micro_batch=2", "precision=fp32")]
    assert train.main(asked) == 0, capsys.readouterr().err
    check_folder(capsys.readouterr().out.splitlines()[-1].removeprefix("model: "))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--model", "./none"], "no such folder: ./none"),
        (
            ["--model", "world", "--set=credit.rollout=3"],
            "credit: credit.rollout: unknown key (did you mean 'rollouts'",
        ),
    ],
)
def test_a_mistake_of_credit_costs_no_start(
    more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps(traces(1, 1)[0]) + "\n")
    assert credit.main(["--traces", str(tmp_path / "t.jsonl"), "--out", str(tmp_path / "c"), *more]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "more", "said"),
    [
        ("step_dop", [], "no such method: step_dop (did you mean 'step_dpo'?)"),
        ("dpo", ["--set=betta=1"], "dpo: runs.dpo.betta: unknown key (did you mean 'beta'?)"),
        ("dpo", ["--set=evaluate_every=5"], "evaluate_every and gate need validation problems"),
        ("prm", [], "prm: runs.prm.epochs"),
    ],
)
def test_so_does_one_of_training(
    method: str, more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "x", "chosen": "a", "rejected": "b"}) + "\n")
    asked = [method, "--data", str(tmp_path / "p.jsonl"), "--model", "world", "--out", str(tmp_path / "m"), *more]
    assert train.main(asked) == 2
    assert said in capsys.readouterr().err
