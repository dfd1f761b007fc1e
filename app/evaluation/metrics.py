"""Accuracy, pass@k, and paired comparison of two methods, each with a 95% interval.

The rule for verdicts, everywhere: `correct` is right; `incorrect` and `unparsed` are wrong (a policy that gives no
readable answer has not solved the problem); `timeout` and `error` say nothing about the policy, so they are left out of
every numerator and denominator and counted apart as `undecided`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.records import JUDGED, OUTCOMES
from app.statistics import Estimate, Z, bootstrap, mcnemar, wilson


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Share of judged problems answered right, with Wilson's interval; what is left out is in `undecided`."""

    correct: int
    judged: int
    unparsed: int
    undecided: int

    @property
    def estimate(self) -> Estimate:
        if self.judged == 0:
            return Estimate(math.nan, 0.0, 1.0, 0)
        return Estimate(self.correct / self.judged, *wilson(self.correct, self.judged), self.judged)


def accuracy(outcomes: Sequence[str]) -> Accuracy:
    """Accuracy from one outcome a problem. Raises ValueError at an unknown outcome: a typo must not count as wrong."""
    for outcome in outcomes:
        if outcome not in OUTCOMES:
            raise ValueError(f"unknown outcome {outcome!r}; the outcomes are {', '.join(OUTCOMES)}")
    judged = sum(outcome in JUDGED for outcome in outcomes)
    return Accuracy(
        correct=sum(outcome == "correct" for outcome in outcomes),
        judged=judged,
        unparsed=sum(outcome == "unparsed" for outcome in outcomes),
        undecided=len(outcomes) - judged,
    )


def pass_at_k_of(correct: int, judged: int, k: int) -> float:
    """Chance that at least one of k draws without replacement out of `judged` is correct (Chen et al. 2021, eq. 1)."""
    if not 0 <= correct <= judged or not 1 <= k <= judged:
        raise ValueError(f"pass@{k} of {correct} correct among {judged} judged samples")
    return 1.0 - math.comb(judged - correct, k) / math.comb(judged, k)


def pass_at_k(samples: Sequence[Sequence[str]], k: int) -> Estimate:
    """Mean unbiased pass@k over problems.

    Args:
        samples: outcomes of the drawn samples, one sequence a problem.
        k: number of tries.

    Returns:
        The estimate over the problems with at least k judged samples (its `n`), with a bootstrap interval over them.
    """
    values = []
    for outcomes in samples:
        counted = accuracy(outcomes)
        if counted.judged >= k:
            values.append(pass_at_k_of(counted.correct, counted.judged, k))
    return bootstrap(np.array(values))


def tries(samples: int) -> list[int]:
    """The k to report for `samples` draws a problem: powers of two, and all of them."""
    if samples == 0:
        return []
    return sorted({2**power for power in range(samples.bit_length())} | {samples})


@dataclass(frozen=True, slots=True)
class Paired:
    """Two methods on the same problems: `gained` only the first got right, `lost` only the other did."""

    gained: int
    lost: int
    n: int  # problems judged for both
    undecided: int  # problems of both without a judgement from one of them

    @property
    def difference(self) -> Estimate:
        """Accuracy of the first minus that of the other, with the interval of Agresti and Min (2005).

        A Wald interval after half a problem is added to each of the four cells: close to 95% coverage at any n, and
        never of width zero.
        """
        if self.n == 0:
            return Estimate(math.nan, -1.0, 1.0, 0)
        total, gap, moved = self.n + 2, self.gained - self.lost, self.gained + self.lost + 1
        half = Z * math.sqrt(moved - gap * gap / total) / total
        return Estimate(gap / self.n, max(-1.0, gap / total - half), min(1.0, gap / total + half), self.n)

    @property
    def p_value(self) -> float:
        """Two-sided exact McNemar test: were gains and losses a fair coin?"""
        return mcnemar(self.gained, self.lost)


def paired(first: Mapping[str, str], other: Mapping[str, str]) -> Paired:
    """Compare outcomes by problem id; problems that only one of the two saw are ignored."""
    shared = first.keys() & other.keys()
    judged = [i for i in shared if first[i] in JUDGED and other[i] in JUDGED]
    right = [(first[i] == "correct", other[i] == "correct") for i in judged]
    return Paired(
        gained=right.count((True, False)),
        lost=right.count((False, True)),
        n=len(judged),
        undecided=len(shared) - len(judged),
    )
