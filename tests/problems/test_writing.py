"""Reading what a capable model answers."""

from __future__ import annotations

import pytest

from app.problems.writing import read_solution, read_statement, seeds_for, solve_prompt, write_prompt
from app.records import Problem

SEEDS = [Problem(f"p{i}", f"Seed problem number {i}?", "1", "train", "x") for i in range(9)]


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        (
            "Problem: Tom has 3 apples and eats one. How many are left?",
            "Tom has 3 apples and eats one. How many are left?",
        ),
        ("Sure!\n\nProblem 4: A b c d\ne f?\n\nSolution: no", "A b c d e f?"),
        (
            "<think>Problem: wrong one here is it</think>Problem: The right one is here now?",
            "The right one is here now?",
        ),
        ("Problem: too short", None),
        ("I cannot do that", None),
        ("", None),
    ],
)
def test_statements(text: str, statement: str | None) -> None:
    assert read_statement(text) == statement


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("3 + 4 = 7\n#### 7", "7"),
        ("no mark", None),
        ("#### ", None),
        ("a\n#### 7\nand more\nlines", None),
        ("#### " + "9" * 61, None),
    ],
)
def test_solutions(text: str, answer: str | None) -> None:
    found = read_solution(text)
    assert (found[0] if found else None) == answer
    if found:
        assert found[1].endswith(f"#### {answer}")


def test_seeds_follow_from_the_run_and_the_request() -> None:
    assert seeds_for(SEEDS, 4, 3, 0) == seeds_for(SEEDS, 4, 3, 0)
    assert {p.id for i in range(50) for p in seeds_for(SEEDS, i, 3, 0)} == {p.id for p in SEEDS}
    assert len(seeds_for(SEEDS, 0, 99, 0)) == 9


def test_prompts_hold_what_they_must() -> None:
    assert all(p.statement in write_prompt(SEEDS[:2]) for p in SEEDS[:2])
    assert "How many?" in solve_prompt("How many?")
