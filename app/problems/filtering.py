"""Which written problems are kept: none that repeats a seed, an evaluation problem or an earlier one, even nearly."""

from __future__ import annotations

from collections.abc import Iterable

from app.problems.overlap import NearIndex
from app.records import Problem


def keep_new(
    candidates: Iterable[Problem], seeds: Iterable[Problem], evaluation: Iterable[Problem], threshold: float
) -> tuple[list[Problem], dict[str, float]]:
    """(problems kept, in order; counts of what was dropped and why, such as `near evaluation`)."""
    index = NearIndex(threshold)
    for label, problems in (("evaluation", evaluation), ("seed", seeds)):
        for problem in problems:
            index.add(problem.statement, label)
    kept: list[Problem] = []
    dropped: dict[str, float] = {}
    for problem in candidates:
        found = index.match(problem.statement)
        if found is None:
            index.add(problem.statement, "synthetic")
            kept.append(problem)
        else:
            reason = f"dropped: {found[0]} duplicate of {found[1]}"
            dropped[reason] = dropped.get(reason, 0) + 1
    return kept, dropped
