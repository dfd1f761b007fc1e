"""Which written problems are kept: none that repeats a seed or an earlier one, even nearly."""

from __future__ import annotations

from collections.abc import Iterable

from app.problems.overlap import NearIndex
from app.records import Problem


class Filter:
    """Takes problems one by one, in order; what it takes, later ones are compared with too."""

    def __init__(self, seeds: Iterable[Problem], threshold: float) -> None:
        self.index = NearIndex(threshold)
        for problem in seeds:
            self.index.add(problem.statement, "seed")

    def refusal(self, problem: Problem) -> str | None:
        """Why a problem is not kept, such as `near duplicate of seed`; None where it is."""
        found = self.index.match(problem.statement)
        if found is not None:
            return f"{found[0]} duplicate of {found[1]}"
        self.index.add(problem.statement, "synthetic")
        return None
