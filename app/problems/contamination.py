"""Whether a new problem repeats one of a list of evaluation problems: the same, nearly so, or by shared word n-grams.

Tulu 3 (arXiv 2411.15124) counts a problem as contaminated where 8-grams that it shares cover half of an evaluation
problem's words; datatrove looks at shared 12-grams. Both are here, each with the least share of words it must cover.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.problems.overlap import NearIndex, statement_digest, words
from app.problems.settings import DecontaminationSettings

EXACT, NEAR = "exact", "near duplicate"
NUMBER = "#"  # what a masked number is


@dataclass(frozen=True)
class Hit:
    """How a text repeats an evaluation problem. `place` is its position among all that were added."""

    kind: str  # EXACT, NEAR or such as "8-gram"
    place: int
    coverage: float  # share of the evaluation problem's words that the shared n-grams hold; 1 where exact


class GramIndex:
    """Word n-grams of evaluation statements. One that is shorter than n words has none."""

    def __init__(self, size: int, least: float) -> None:
        self.size, self.least = size, least
        self._postings: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
        self._lengths: dict[int, int] = {}

    def add(self, place: int, text: Sequence[str]) -> None:
        """Remember a statement, given its words."""
        self._lengths[place] = len(text)
        for start in range(len(text) - self.size + 1):
            self._postings[tuple(text[start : start + self.size])].append((place, start))

    def match(self, text: Sequence[str]) -> tuple[float, int] | None:
        """(coverage, place) of the statement of which most is shared, where that is enough."""
        shared: dict[int, set[int]] = defaultdict(set)
        for gram in {tuple(text[i : i + self.size]) for i in range(len(text) - self.size + 1)}:
            for place, start in self._postings.get(gram, ()):
                shared[place].update(range(start, start + self.size))
        found = max(((len(at) / self._lengths[place], -place) for place, at in shared.items()), default=None)
        return None if found is None or found[0] < self.least else (found[0], -found[1])


class EvaluationIndex:
    """Evaluation problems by list. Holds all of them; what is compared with them comes one at a time."""

    def __init__(self, settings: DecontaminationSettings, near_duplicate: float) -> None:
        self.masked = settings.mask_numbers
        self.lists: dict[str, set[str]] = {}  # `statement_digest` of all its statements
        self.texts: list[tuple[str, str]] = []  # list and statement, by place
        self._exact: dict[str, int] = {}
        self._near = NearIndex(near_duplicate)
        self._grams = [GramIndex(size, least) for size, least in sorted(settings.ngrams.items(), reverse=True)]

    def add(self, name: str, statements: Iterable[str]) -> None:
        """Remember the statements of a list. A name may be added to more than once."""
        listed = self.lists.setdefault(name, set())
        for text in statements:
            place, exact = len(self.texts), statement_digest(text)
            self.texts.append((name, text))
            listed.add(exact)
            self._exact.setdefault(exact, place)
            self._near.add(text, str(place))
            mine = self._words(text)
            for index in self._grams:
                index.add(place, mine)

    def match(self, text: str) -> Hit | None:
        """What a text repeats: exactly, else nearly, else by the longest n-grams that say so."""
        exact = self._exact.get(statement_digest(text))
        if exact is not None:
            return Hit(EXACT, exact, 1.0)
        mine = self._words(text)
        by_grams = [(index.size, found) for index in self._grams if (found := index.match(mine))]
        near = self._near.match(text)
        if near is not None:
            place = int(near[1])
            return Hit(NEAR, place, max((found[0] for _, found in by_grams if found[1] == place), default=0.0))
        return next((Hit(f"{size}-gram", found[1], found[0]) for size, found in by_grams), None)

    def _words(self, text: str) -> list[str]:
        found = words(text)
        return [NUMBER if word[0].isdigit() else word for word in found] if self.masked else found
