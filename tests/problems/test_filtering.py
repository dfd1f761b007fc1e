"""What is dropped among written problems, and why."""

from __future__ import annotations

from app.problems.filtering import Filter
from app.problems.overlap import NearIndex
from app.records import Problem

LONG = "Maya has twelve apples and then she buys {} more apples at the big market on Monday before she eats two of them"


def problem(name: str, statement: str) -> Problem:
    return Problem(name, statement, "1", "train", "x")


def test_each_reason_is_named() -> None:
    made = Filter([problem("s", LONG.format("seven"))], NearIndex(0.6))
    candidates = [
        (LONG.format("seven").upper(), "exact duplicate of seed"),
        (LONG.format("nine"), "near duplicate of seed"),
        ("Tom reads forty pages a day for one week. How many pages is that?", None),
        ("tom reads forty pages a day for one week how many pages is that", "exact duplicate of synthetic"),
    ]
    for statement, reason in candidates:
        assert made.refusal(problem("c", statement)) == reason
