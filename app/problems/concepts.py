"""Ideas of the seeds and which of them occur together: what `concept_pair` draws from (MathScale, arXiv 2403.02884)."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from app.problems.prompts import filled, prompt

BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s*(.+?)\s*$", re.M)
MOST = 4  # ideas of one problem


def concepts_prompt(statement: str) -> str:
    """What asks for the ideas of one problem."""
    return filled(prompt("concepts"), {"statement": statement})


def read_concepts(text: str) -> tuple[str, ...]:
    """Ideas in an answer, in lower case; at most MOST, none of more than eight words."""
    found = (match.strip(" .*`").lower() for match in BULLET.findall(text))
    return tuple(dict.fromkeys(idea for idea in found if 1 <= len(idea.split()) <= 8))[:MOST]


class Concepts:
    """Ideas by how often they occur, and their neighbours by how often both occur in one problem."""

    def __init__(self, rows: Iterable[Sequence[str]]) -> None:
        self.counts: Counter[str] = Counter()
        self.beside: dict[str, Counter[str]] = {}
        for row in rows:
            self.counts.update(row)
            for idea in row:
                self.beside.setdefault(idea, Counter()).update(other for other in row if other != idea)

    def pair(self, rng: random.Random) -> tuple[str, str] | None:
        """Two ideas: the second is one or two steps of a walk over co-occurrences away, so that most pairs are of no
        single seed. None where fewer than two ideas are known.
        """
        if len(self.counts) < 2:
            return None
        first = _drawn(self.counts, rng)
        second = first
        for _ in range(rng.choice((1, 2, 2))):
            second = _drawn(self.beside[second], rng) if self.beside.get(second) else second
        if second == first:
            second = _drawn(Counter({idea: n for idea, n in self.counts.items() if idea != first}), rng)
        return first, second


def _drawn(counts: Counter[str], rng: random.Random) -> str:
    names = sorted(counts)
    return rng.choices(names, [counts[name] for name in names])[0]
