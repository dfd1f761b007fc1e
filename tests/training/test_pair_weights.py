"""Weights from rollout counts, against drawn posteriors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.training.pair_weights import lost_value, pair_weights

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


def weights(*rows: tuple[int, int, int, int, bool]) -> list[float]:
    return pair_weights(*(np.array(column) for column in zip(*rows, strict=True))).tolist()


def test_pairs_without_counts_keep_their_weight_and_doubtful_ones_lose_it() -> None:
    found = weights((0, 0, 0, 0, False), (8, 8, 0, 8, False), (2, 4, 2, 4, False), (1, 4, 3, 4, False))
    assert found[0] == 1
    assert found[1] > 0.99
    assert found[2] == pytest.approx(0, abs=1e-12)  # as likely as not
    assert found[3] == 0


@given(COUNTS.filter(lambda counts: counts[1] > 0))
def test_an_end_that_is_certain_has_lost_all(before: tuple[int, int]) -> None:
    """The end of a wrong trace is no rollout: read as one it would leave .45 of the weight of (4 of 8)."""
    assert weights((*before, 0, 1, True)) == [1]
    assert weights((*before, 0, 1, False))[0] < 1


def test_counts_are_those_of_rollouts_whatever_the_best_of_five_makes_of_them() -> None:
    """Half of 8 right before and 2 of 8 after: Q of the best of five would read as 8 and 6 right."""
    [found] = weights((4, 8, 2, 8, False))
    assert found == pytest.approx(2 * lost_value(4, 8, 2, 8) - 1)
    assert found != pytest.approx(2 * lost_value(8, 8, 6, 8) - 1, abs=0.05)
