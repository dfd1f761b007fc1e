"""Exact and near duplicates of statements, by word 3-grams.

Near duplicate = Jaccard similarity of the sets of word 3-grams at or above a threshold. The index is exact: two sets
with similarity t share one of the first |x| - ceil(t |x|) + 1 grams of each in any fixed order (prefix filtering,
Bayardo et al. 2007), so only those are looked up.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict

from app.records import digest

WORD = re.compile(r"[^\W_]+(?:[.,]\d+)*")


def words(text: str) -> list[str]:
    """Lower-case words and numbers, Unicode-normalised: what two statements are compared by."""
    return WORD.findall(unicodedata.normalize("NFKC", text).lower())


def statement_digest(text: str) -> str:
    """Equal for statements that differ only in case, spacing and punctuation."""
    return digest(words(text), size=16)


def grams(text: str) -> frozenset[tuple[str, ...]]:
    """Word 3-grams; a shorter text is one gram."""
    ws = words(text)
    return frozenset(tuple(ws[i : i + 3]) for i in range(max(1, len(ws) - 2)))


def jaccard(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    union = len(a | b)
    return len(a & b) / union if union else 1.0


class NearIndex:
    """Statements seen so far; `match` finds one that is the same or nearly so."""

    def __init__(self, threshold: float) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold {threshold}: expected 0 < threshold <= 1")
        self.threshold = threshold
        self._sets: list[frozenset[tuple[str, ...]]] = []
        self._labels: list[str] = []
        self._exact: dict[str, str] = {}
        self._postings: dict[tuple[str, ...], list[int]] = defaultdict(list)

    def add(self, text: str, label: str) -> None:
        """Remember a statement under a label (its id, or the set it is of)."""
        mine = grams(text)
        self._exact.setdefault(statement_digest(text), label)
        for gram in self._prefix(mine):
            self._postings[gram].append(len(self._sets))
        self._sets.append(mine)
        self._labels.append(label)

    def match(self, text: str) -> tuple[str, str] | None:
        """("exact" or "near", label of what it repeats), or None."""
        exact = self._exact.get(statement_digest(text))
        if exact is not None:
            return "exact", exact
        mine = grams(text)
        seen: set[int] = set()
        for gram in self._prefix(mine):
            for index in self._postings.get(gram, ()):
                if index not in seen:
                    seen.add(index)
                    if jaccard(mine, self._sets[index]) >= self.threshold:
                        return "near", self._labels[index]
        return None

    def _prefix(self, grams_: frozenset[tuple[str, ...]]) -> list[tuple[str, ...]]:
        keep = len(grams_) - math.ceil(self.threshold * len(grams_) - 1e-9) + 1
        return sorted(grams_)[:keep]
