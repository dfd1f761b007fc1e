"""Intervals and tests: Wilson for a share, McNemar for pairs, the percentile bootstrap over problems for the rest.

All of it by scipy.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, ndtri

Z = float(ndtri(0.975))  # quantile of the normal distribution
RESAMPLES = 2000
BLOCK = 2_000_000  # numbers of one block of resamples: 16 MB

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over `n` problems and its 95% interval. All three are nan where n is 0."""

    value: float
    low: float
    high: float
    n: int

    def json(self) -> dict[str, Any]:
        """Plain values, None for nan: JSON has no nan."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}


@lru_cache(maxsize=1 << 16)  # a search asks for the same few counts again and again, at half a millisecond each
def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95% score interval of a share (Wilson 1927). No trials say nothing: (0, 1)."""
    from scipy.stats import binomtest  # a second to import, which most processes never need

    if not 0 <= successes <= trials:
        raise ValueError(f"wilson: {successes} successes of {trials} trials")
    if trials == 0:
        return 0.0, 1.0
    found = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p-value (McNemar 1947): were gains and losses a fair coin? 1 where nothing changed."""
    from scipy.stats import binomtest

    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def log_beta(a: float, b: float) -> float:
    """Logarithm of Euler's beta function."""
    return float(betaln(a, b))


def resampled_means(values: Array, resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """Means of `values` over problems drawn with replacement.

    Args:
        values: [problems] or [series, problems]; every series sees the same draws, so differences stay paired.

    Returns:
        [resamples] or [series, resamples].
    """
    from scipy import stats

    values = np.asarray(values, dtype=np.float64)
    problems = values.shape[-1]
    if problems == 0:
        raise ValueError("a bootstrap needs at least one problem")
    if problems == 1:  # of which scipy makes nothing
        return np.repeat(values, resamples, axis=-1)
    found = stats.bootstrap(
        tuple(np.atleast_2d(values)),
        lambda *series, axis: np.stack([one.mean(axis=axis) for one in series]),
        n_resamples=resamples,
        batch=max(1, BLOCK // values.size),
        paired=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return np.asarray(found.bootstrap_distribution).reshape(*values.shape[:-1], resamples)


def percentiles(samples: Array) -> tuple[float, float]:
    """The middle 95% of bootstrap samples; ends are samples themselves, so that infinities stay what they are."""
    low, high = np.quantile(samples, [0.025, 0.975], method="nearest")
    return float(low), float(high)


def bootstrap(values: Array, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Mean of `values` [problems] with its percentile interval."""
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    return Estimate(float(values.mean()), *percentiles(resampled_means(values, resamples, seed)), values.size)
