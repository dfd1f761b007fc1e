"""Intervals cover what they say they cover."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.statistics import BLOCK, Estimate, Z, bootstrap, percentiles, resampled_means, wilson

shares = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # Newcombe 1998, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_published_values(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


@given(shares)
def test_wilson_solves_its_equation(share: tuple[int, int]) -> None:
    """Its ends are the shares that the data reject at exactly 5%."""
    successes, trials = share
    observed = successes / trials
    for end in wilson(successes, trials):
        assert (observed - end) ** 2 == pytest.approx(Z**2 * end * (1 - end) / trials, abs=1e-9)


@given(shares)
def test_wilson_holds_the_share_and_mirrors(share: tuple[int, int]) -> None:
    successes, trials = share
    low, high = wilson(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    assert wilson(trials - successes, trials) == pytest.approx((1 - high, 1 - low))


@given(shares)
def test_wilson_narrows_with_more_trials(share: tuple[int, int]) -> None:
    successes, trials = share
    narrow, wide = wilson(4 * successes, 4 * trials), wilson(successes, trials)
    assert narrow[1] - narrow[0] < wide[1] - wide[0]


def test_wilson_without_trials_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "trials"), [(-1, 3), (4, 3), (1, 0)])
def test_wilson_refuses_impossible_counts(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="successes of"):
        wilson(successes, trials)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("trials", [20, 100, 1000])
def test_wilson_covers(share: float, trials: int) -> None:
    """Exact coverage, summed over the binomial: never far below 95%."""
    covered = 0.0
    for k in range(trials + 1):
        low, high = wilson(k, trials)
        if low <= share <= high:
            log = math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
            covered += math.exp(log + k * math.log(share) + (trials - k) * math.log1p(-share))
    assert 0.915 < covered < 0.985


def test_bootstrap_is_close_to_the_normal_interval() -> None:
    values = np.random.default_rng(1).random(800)
    estimate = bootstrap(values)
    half = Z * values.std() / math.sqrt(values.size)
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_bootstrap_covers() -> None:
    random = np.random.default_rng(2)
    hits = 0
    for trial in range(300):
        estimate = bootstrap(random.random(60) < 0.4, resamples=400, seed=trial)
        hits += estimate.low <= 0.4 <= estimate.high
    assert 0.89 < hits / 300 < 0.99


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(0, 9))
@settings(max_examples=50)
def test_bootstrap_stays_within_the_values(values: list[float], seed: int) -> None:
    estimate = bootstrap(np.array(values), resamples=200, seed=seed)
    assert min(values) - 1e-9 <= estimate.low <= estimate.high <= max(values) + 1e-9
    assert estimate == bootstrap(np.array(values), resamples=200, seed=seed)


def test_bootstrap_of_nothing() -> None:
    estimate = bootstrap(np.array([]))
    assert estimate.n == 0 and math.isnan(estimate.value)
    assert json.loads(json.dumps(estimate.json())) == {"value": None, "low": None, "high": None, "n": 0}


def test_estimate_json_keeps_numbers() -> None:
    assert Estimate(0.5, 0.25, 0.75, 8).json() == {"value": 0.5, "low": 0.25, "high": 0.75, "n": 8}


def test_series_share_their_draws() -> None:
    """The same problems are drawn for every series: the mean of a difference is the difference of the means."""
    random = np.random.default_rng(3)
    a, b = random.random(50), random.random(50)
    means = resampled_means(np.stack([a, b, a - b]), resamples=100)
    assert means.shape == (3, 100)
    np.testing.assert_allclose(means[0] - means[1], means[2], atol=1e-12)


def test_resampling_in_blocks_gives_every_resample() -> None:
    values = np.arange(BLOCK // 3, dtype=float)
    means = resampled_means(values, resamples=7)
    assert means.shape == (7,) and len(set(means.tolist())) == 7


def test_resampling_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one problem"):
        resampled_means(np.zeros((2, 0)))


def test_percentiles_keep_infinity() -> None:
    samples = np.array([*range(90), *[math.inf] * 10], dtype=float)
    assert percentiles(samples) == (2.0, math.inf)
