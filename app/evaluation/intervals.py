"""Intervals: Wilson for a share, the percentile bootstrap over problems for everything else."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Z = 1.959963984540054  # 97.5% quantile of the normal distribution
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


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95% score interval of a share (Wilson 1927). No trials say nothing: (0, 1)."""
    if not 0 <= successes <= trials:
        raise ValueError(f"wilson: {successes} successes of {trials} trials")
    if trials == 0:
        return 0.0, 1.0
    share, z2 = successes / trials, Z * Z
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials * trials)) / (1 + z2 / trials)
    low = 0.0 if successes == 0 else max(0.0, centre - half)  # exact at the ends, where rounding would leave 1e-17
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return low, high


def resampled_means(values: Array, resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """Means of `values` over problems drawn with replacement.

    Args:
        values: [problems] or [series, problems]; every series sees the same draws, so differences stay paired.

    Returns:
        [resamples] or [series, resamples].
    """
    values = np.asarray(values, dtype=np.float64)
    problems = values.shape[-1]
    if problems == 0:
        raise ValueError("a bootstrap needs at least one problem")
    random = np.random.default_rng(seed)
    block = max(1, BLOCK // values.size)
    parts = []
    for start in range(0, resamples, block):
        draws = random.integers(0, problems, size=(min(block, resamples - start), problems))
        parts.append(values[..., draws].mean(axis=-1))
    return np.concatenate(parts, axis=-1)


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
