"""What is dropped among written problems, and why."""

from __future__ import annotations

from app.problems.filtering import Filter
from app.records import Problem

LONG = "Maya has twelve apples and then she buys {} more apples at the big market on Monday before she eats two of them"


def problem(name: str, statement: str, split: str = "train") -> Problem:
    return Problem(name, statement, "1", split, "x")


def test_each_reason_is_named() -> None:
    seeds = [problem("s", LONG.format("seven"))]
    held_out = [problem("t", "A train leaves at noon and arrives at three; how long does it take?", "test")]
    made = Filter(seeds, held_out, 0.6)
    candidates = [
        (LONG.format("seven").upper(), "exact duplicate of seed"),
        (LONG.format("nine"), "near duplicate of seed"),
        ("A train leaves at noon and arrives at three; how long does it take?", "exact duplicate of evaluation"),
        ("Tom reads forty pages a day for one week. How many pages is that?", None),
        ("tom reads forty pages a day for one week how many pages is that", "exact duplicate of synthetic"),
    ]
    for statement, reason in candidates:
        assert made.refusal(problem("c", statement)) == reason


def test_evaluation_is_named_before_a_seed() -> None:
    same = LONG.format("six")
    made = Filter([problem("s", same)], [problem("t", same, "test")], 0.8)
    assert made.refusal(problem("1", same)) == "exact duplicate of evaluation"
