"""How sure rollout counts are that a step lost value: weights for per-step pairs that know their noise."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from app.statistics import log_beta


@lru_cache(maxsize=4096)
def lost_value(correct_before: int, judged_before: int, correct_after: int, judged_after: int) -> float:
    """P(Q before > Q after) of a step, both Q with uniform priors: Beta(correct + 1, wrong + 1), independent.

    The sum over the first shape (exact for whole numbers): E. Miller, Formulas for Bayesian A/B testing, 2014.
    """
    a, b = correct_before + 1, judged_before - correct_before + 1
    c, d = correct_after + 1, judged_after - correct_after + 1

    def term(i: int) -> float:
        return math.exp(log_beta(c + i, b + d) - math.log(b + i) - log_beta(1 + i, b) - log_beta(c, d))

    # P(X > Y) with X ~ Beta(a, b): sum over i < a of B(c + i, b + d) / ((b + i) B(1 + i, b) B(c, d))
    return min(1.0, sum(term(i) for i in range(a)))


def pair_weights(
    correct_before: np.ndarray,
    judged_before: np.ndarray,
    correct_after: np.ndarray,
    judged_after: np.ndarray,
    exact_after: np.ndarray,
) -> np.ndarray:
    """2 P - 1 of each pair, at least 0, with P = lost_value; 1 where no rollouts were judged. All (pairs,).

    The counts are of rollouts as they were drawn, whatever `credit.best_of` makes of their share. A value after the
    step that is certain to be 0 (`exact_after`: the end of a wrong trace) has lost all there was: P is 1.
    A label that is wrong with probability 1 - P shrinks the expected gradient of the DPO loss at its start by 2 P - 1.
    """
    out = np.ones(len(correct_before))
    sampled = (judged_before > 0) & (judged_after > 0) & ~(exact_after & (correct_after == 0))
    for i in np.flatnonzero(sampled):
        counts = (int(column[i]) for column in (correct_before, judged_before, correct_after, judged_after))
        out[i] = max(0.0, 2 * lost_value(*counts) - 1)
    return out
