"""How far apart solutions are, and which few of them are most diverse."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from itertools import pairwise

from rapidfuzz.distance import Levenshtein

from app.records import digest
from app.verification.arithmetic import MARKS, equations

UNNAMED = re.compile(r"[\d+*/^\\]|\w\s+-\s+\w")  # what a name before "=" does not hold


def sums(text: str) -> tuple[str, ...]:
    """What is worked out in a solution, in order: its sums, and the words of lines with an equation that is no sum.

    `She pays 3 * $4 = $12.` gives `3*4=12`, as does `Cost = 3*4 = 12`; `2x + 3 = 7` gives itself.
    """
    found: list[str] = []
    for line in text.split("\n"):
        read = [equation.text for equation in equations(line)]
        if len(read) < _equalities(line):
            found.append(" ".join(line.lower().split()))
        else:
            found += [equation.replace(" ", "").replace(",", "") for equation in read]
    return tuple(found)


def _equalities(line: str) -> int:
    """How many equations a line holds; what a name stands for (`Total = 12`) is none."""
    return sum(
        bool(UNNAMED.search(left)) and bool(right.strip())
        for part in MARKS.findall(line) or [line]
        for left, right in pairwise(part.split("="))
    )


def signature(text: str) -> str:
    """What makes two solutions the same one: what they work out, in order, or the words where that is nothing.

    After RFT (arXiv 2308.01825), which keeps one solution a distinct equation list.
    """
    listed = sums(text)
    return digest("equations", listed) if listed else digest("words", text.lower().split())


def most_diverse(items: Sequence[Sequence[Hashable]], k: int) -> list[int]:
    """Indices of at most k items, greedily of the largest summed edit distance to those taken.

    The first one taken is the farthest from all. Ties go to the earlier item: give them in an order of your own.
    """
    if len(items) <= k:
        return list(range(len(items)))
    distance = [[Levenshtein.distance(one, other) for other in items] for one in items]
    taken = [max(range(len(items)), key=lambda i: sum(distance[i]))]
    while len(taken) < k:
        rest = (i for i in range(len(items)) if i not in taken)
        taken.append(max(rest, key=lambda i: sum(distance[i][j] for j in taken)))
    return taken
