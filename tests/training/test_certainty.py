"""Weights from rollout counts, against drawn posteriors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.training.certainty import lost_value, pair_weights

COUNTS = st.integers(0, 16).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(("before", "after"), [((4, 4), (0, 4)), ((3, 8), (2, 8)), ((1, 16), (5, 7)), ((0, 1), (0, 0))])
def test_the_probability_is_that_of_drawn_posteriors(before: tuple[int, int], after: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    draws = [rng.beta(k + 1, n - k + 1, 400_000) for k, n in (before, after)]
    assert lost_value(*before, *after) == pytest.approx(float((draws[0] > draws[1]).mean()), abs=0.004)


@given(COUNTS, COUNTS)
def test_either_before_or_after_is_higher(before: tuple[int, int], after: tuple[int, int]) -> None:
    assert lost_value(*before, *after) + lost_value(*after, *before) == pytest.approx(1)


@given(COUNTS, COUNTS)
def test_another_correct_rollout_before_makes_it_surer(before: tuple[int, int], after: tuple[int, int]) -> None:
    assert lost_value(before[0] + 1, before[1] + 1, *after) > lost_value(*before, *after) - 1e-12


def test_pairs_without_counts_keep_their_weight_and_doubtful_ones_lose_it() -> None:
    weights = pair_weights(
        np.array([np.nan, 1.0, 0.5, 0.25]),
        np.array([0, 8, 4, 4]),
        np.array([np.nan, 0, 0.5, 0.75]),
        np.array([0, 8, 4, 4]),
    )
    assert weights[0] == 1
    assert weights[1] > 0.99
    assert weights[2] == pytest.approx(0, abs=1e-12)  # as likely as not
    assert weights[3] == 0
