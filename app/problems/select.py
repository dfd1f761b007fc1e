"""Problems of one split, in the one order every stage uses."""

from __future__ import annotations

from app.errors import UserError
from app.records import Problem
from app.store import Output


def problems_of(output: Output, split: str) -> list[Problem]:
    """Problems of a split, ordered by id. Raises UserError where there are none."""
    problems = [p for table in output.tables() for p in Problem.from_table(table) if p.split == split]
    if not problems:
        raise UserError(f"{output.uri}: no {split} problems there; raise problems.{split} in the recipe")
    return sorted(problems, key=lambda p: p.id)
