"""What is dropped among written problems, and why."""

from __future__ import annotations

from app.problems.filtering import keep_new
from app.records import Problem

LONG = "Maya has twelve apples and then she buys {} more apples at the big market on Monday before she eats two of them"


def problem(name: str, statement: str, split: str = "train") -> Problem:
    return Problem(name, statement, "1", split, "x")


def test_each_reason_is_counted() -> None:
    seeds = [problem("s", LONG.format("seven"))]
    held_out = [problem("t", "A train leaves at noon and arrives at three; how long does it take?", "test")]
    candidates = [
        problem("1", LONG.format("seven").upper()),
        problem("2", LONG.format("nine")),
        problem("3", "A train leaves at noon and arrives at three; how long does it take?"),
        problem("4", "Tom reads forty pages a day for one week. How many pages is that?"),
        problem("5", "tom reads forty pages a day for one week how many pages is that"),
    ]
    kept, dropped = keep_new(candidates, seeds, held_out, 0.6)
    assert [p.id for p in kept] == ["4"]
    assert dropped == {
        "dropped: exact duplicate of seed": 1,
        "dropped: near duplicate of seed": 1,
        "dropped: exact duplicate of evaluation": 1,
        "dropped: exact duplicate of synthetic": 1,
    }


def test_evaluation_is_named_before_a_seed() -> None:
    same = LONG.format("six")
    _, dropped = keep_new([problem("1", same)], [problem("s", same)], [problem("t", same, "test")], 0.8)
    assert dropped == {"dropped: exact duplicate of evaluation": 1}


def test_nothing_to_drop() -> None:
    assert keep_new([], [], [], 0.5) == ([], {})
