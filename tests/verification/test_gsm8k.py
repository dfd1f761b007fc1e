"""Every GSM8K reference solution against its own answer, and against the next problem's."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from app.verification import judge

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "gsm8k"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no GSM8K beside the repository")


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, str]]:
    """(reference, solution) of every problem."""
    found = []
    for name in ("train", "test"):
        for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            answer = json.loads(line)["answer"]
            found.append((answer.split("####")[1].strip(), answer))
    return found


def test_every_solution_is_correct_against_its_own_answer(rows: list[tuple[str, str]]) -> None:
    assert len(rows) == 8792
    assert [r for r, text in rows if not judge(r, text).correct] == []


def test_no_solution_is_correct_against_the_next_answer(rows: list[tuple[str, str]]) -> None:
    others = [(r, text) for (r, _), (own, text) in pairwise(rows) if r != own]
    assert len(others) > 8_000
    assert [(r, text) for r, text in others if judge(r, text).outcome != "incorrect"] == []


@pytest.mark.parametrize(
    "ending",
    [
        "The answer is {}.",
        "Thus $x = \\boxed{{{}}}$.",
        "**Answer:** {}",
        "The answer is ${}.",
        "<answer>{}</answer>",
        "Final answer: {} units",
    ],
)
def test_other_ways_to_end(rows: list[tuple[str, str]], ending: str) -> None:
    texts = [(r, text.split("####")[0] + ending.format(r)) for r, text in rows]
    assert [(r, text[-80:]) for r, text in texts if not judge(r, text).correct] == []


def test_without_any_mark_the_last_number_serves_for_most(rows: list[tuple[str, str]]) -> None:
    correct = sum(judge(r, text.split("####")[0]).correct for r, text in rows)
    assert correct > 0.98 * len(rows)
