"""The world as a writer."""

from __future__ import annotations

import pytest

from app.errors import UserError
from app.problems.settings import WorldSource, WorldWriter
from app.problems.world import make_problems
from app.problems.writers import from_world


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
