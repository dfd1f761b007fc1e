"""Writers: a scripted model, and the world."""

from __future__ import annotations

import asyncio

import pytest

from app.errors import UserError
from app.problems.settings import SynthesisSettings, WorldSource, WorldWriter
from app.problems.world import make_problems
from app.problems.writers import TOO_LONG, UNREAD, UNSOLVED, from_world, write_all
from app.records import Problem

SEEDS = [Problem(f"p{i}", f"Seed problem number {i} of this set?", "1", "train", "x") for i in range(9)]
SETTINGS = SynthesisSettings(count=40)


async def model(text: str, name: str, seed: int) -> str | None:
    """Writes problems numbered by request; some requests go wrong, each in another way."""
    kind, number = name.split("-")
    if kind == "write":
        if int(number) % 10 == 3:
            return "I would rather not."
        return None if int(number) % 10 == 7 else f"Problem: What is {number} plus {seed % 7} and one?"
    if int(number) % 10 == 5:
        return "no idea"
    assert "What is" in text
    return f"{number} + 1 = {int(number) + 1}\n#### {int(number) + 1}"


def test_answers_become_problems_in_the_order_of_the_requests() -> None:
    problems, counts = asyncio.run(write_all(model, SEEDS, range(40), SETTINGS, seed=0))
    assert counts == {"asked": 40.0, UNREAD: 4.0, UNSOLVED: 4.0, TOO_LONG: 4.0}
    assert [p.answer for p in problems] == [str(i + 1) for i in range(40) if i % 10 not in (3, 5, 7)]
    assert {p.split for p in problems} == {"train"}
    assert all(p.solution and p.solution.endswith(f"#### {p.answer}") for p in problems)


def test_shards_ask_the_same_as_the_whole() -> None:
    whole, _ = asyncio.run(write_all(model, SEEDS, range(40), SETTINGS, seed=0))
    parts = [asyncio.run(write_all(model, SEEDS, range(i, i + 8), SETTINGS, seed=0))[0] for i in range(0, 40, 8)]
    assert [p for part in parts for p in part] == whole


def test_the_world_writes_other_problems_than_the_seeds() -> None:
    seeds = make_problems(0, 50, "train")
    written = from_world(WorldSource(), WorldWriter(), 50, seed=0)
    assert len({p.id for p in [*seeds, *written]}) == 100
    assert all(p.split == "train" and p.solution for p in written)


def test_the_teachers_style_is_the_recipes() -> None:
    careful = from_world(WorldSource(operations=(5, 5)), WorldWriter(careful=1.0), 30, seed=0)
    assert all(len((p.solution or "").splitlines()) == 6 for p in careful)
    with pytest.raises(UserError, match="merge"):
        from_world(WorldSource(), WorldWriter(merge=(0, 0, 0)), 1, seed=0)
