"""maj@k: how often the answer most of k samples agree on is right, exactly, over all subsets of k.

The rule: samples vote with their extracted answer, and answers that are the same answer vote together; all samples the
verifier called correct are one class. `unparsed` samples are drawn but do not vote. Among classes with equally many
votes one is picked at random, so t tied classes with the right one among them count 1/t. Without any vote the answer is
wrong. `timeout` and `error` are left out before anything is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from app.records import JUDGED
from app.statistics import Array, Estimate, bootstrap

MOST_SAMPLES = 1000  # above this binomials leave the range of a float


@dataclass(frozen=True, slots=True)
class Ballot:
    """The judged samples of one problem: votes for the right answer, for each wrong one, and blank ones."""

    right: int
    wrong: tuple[int, ...] = ()
    blank: int = 0

    @property
    def judged(self) -> int:
        return self.right + sum(self.wrong) + self.blank


def ballot(outcomes: Sequence[str], answers: Sequence[str | None], same: Callable[[str, str], bool]) -> Ballot:
    """Count the votes of one problem.

    Args:
        outcomes: one a sample.
        answers: the extracted answer of each sample; a wrong one without an answer is blank.
        same: whether two answers are the same answer; asked only about wrong ones that differ as text.
    """
    right = blank = 0
    texts: dict[str, int] = {}
    for outcome, answer in zip(outcomes, answers, strict=True):
        if outcome not in JUDGED:
            continue
        if outcome == "correct":
            right += 1
        elif outcome == "unparsed" or answer is None:
            blank += 1
        else:
            texts[answer.strip()] = texts.get(answer.strip(), 0) + 1
    classes: dict[str, int] = {}
    for text, votes in texts.items():
        match = next((known for known in classes if same(known, text)), text)
        classes[match] = classes.get(match, 0) + votes
    return Ballot(right, tuple(sorted(classes.values(), reverse=True)), blank)


def majority_of(votes: Ballot, k: int) -> float:
    """Chance that the majority of k samples, drawn without replacement from a ballot, is right (ties at random).

    For each number t of right votes it counts the ways in which no wrong class has more than t votes, by how many have
    exactly t. Time grows with samples * k * log k.
    """
    if not 1 <= k <= votes.judged <= MOST_SAMPLES:
        raise ValueError(f"maj@{k} of {votes.judged} judged samples (at most {MOST_SAMPLES})")
    total = 0.0
    for top in range(1, min(votes.right, k) + 1):
        ways = _ways(votes, k - top, top)
        share = sum(row / (tied + 1) for tied, row in enumerate(ways))
        total += math.comb(votes.right, top) * share
    return min(1.0, total / math.comb(votes.judged, k))


def _ways(votes: Ballot, drawn: int, top: int) -> Array:
    """[tied]: ways to draw `drawn` wrong and blank samples, no class above `top` votes and `tied` of them at `top`."""
    ties = drawn // top
    ways = np.zeros((ties + 1, drawn + 1))  # [tied, drawn so far]
    ways[0] = [math.comb(votes.blank, i) for i in range(drawn + 1)]
    for size in votes.wrong:
        grown = ways.copy()
        for taken in range(1, min(size, top - 1, drawn) + 1):
            grown[:, taken:] += math.comb(size, taken) * ways[:, : drawn + 1 - taken]
        if top <= min(size, drawn):
            grown[1:, top:] += math.comb(size, top) * ways[:-1, : drawn + 1 - top]
        ways = grown
    return ways[:, drawn]


def maj_at_k(ballots: Sequence[Ballot], k: int) -> Estimate:
    """Mean maj@k over the problems with at least k judged samples, with a bootstrap interval over them."""
    return bootstrap(np.array([majority_of(votes, k) for votes in ballots if votes.judged >= k]))
