"""Which written problems are kept: none that repeats a seed or an earlier one, even nearly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from app.problems.minhash import MinHashIndex
from app.problems.overlap import NearIndex
from app.problems.settings import SynthesisSettings
from app.records import Problem


class Index(Protocol):
    """Statements seen so far."""

    def add(self, text: str, label: str) -> None: ...

    def match(self, text: str) -> tuple[str, str] | None: ...


def index_of(settings: SynthesisSettings) -> Index:
    """The index of near duplicates that a recipe asks for."""
    return MinHashIndex(settings.minhash) if settings.minhash else NearIndex(settings.near_duplicate)


class Filter:
    """Takes problems one by one, in order; what it takes, later ones are compared with too."""

    def __init__(self, seeds: Iterable[Problem], index: Index) -> None:
        self.index = index
        for problem in seeds:
            self.index.add(problem.statement, "seed")

    def refusal(self, problem: Problem) -> str | None:
        """Why a problem is not kept, such as `near duplicate of seed`; None where it is."""
        found = self.index.match(problem.statement)
        if found is not None:
            return f"{found[0]} duplicate of {found[1]}"
        self.index.add(problem.statement, "synthetic")
        return None
