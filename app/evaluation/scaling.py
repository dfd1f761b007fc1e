"""Test error against training problems, err = C * D^-alpha, and how many times less data a method needs than SFT.

The fit and its horizontal reading follow Setlur et al. 2024 (arXiv 2406.14532): a method that reaches with D problems
the error that SFT's curve has at m * D problems saves data m-fold. Intervals come from one bootstrap over test
problems, the same draws for every point, because all points were measured on the same problems.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.statistics import RESAMPLES, Array, percentiles, resampled_means

UNUSABLE = 0.05  # share of resampled curves that may fail to fall before a reading is refused


class OutOfRange(ValueError):
    """A reading outside the sizes that were measured."""


@dataclass(frozen=True, slots=True)
class Point:
    """Errors of one trained policy: `size` training problems, error of each test problem (mean over seeds), 0 to 1."""

    size: float
    errors: Array  # [problems]

    @property
    def error(self) -> float:
        return float(np.mean(self.errors))


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """err = scale * D^-alpha, fitted for sizes between `smallest` and `largest`."""

    scale: float
    alpha: float
    smallest: float
    largest: float

    def error(self, size: float) -> float:
        """Error the curve has at `size` problems."""
        return self.scale * size**-self.alpha

    def size(self, error: float) -> float:
        """Problems at which the curve has this error. Raises OutOfRange where the curve does not fall."""
        if error <= 0:
            raise OutOfRange(f"error {error:g}: the curve never reaches it")
        if self.alpha <= 0:
            raise OutOfRange(f"the curve does not fall (alpha = {self.alpha:.3g}): no size can be read from an error")
        try:
            return (self.scale / error) ** (1 / self.alpha)
        except OverflowError:
            return math.inf

    def within(self, log_size: float) -> float:
        """The size of this logarithm, or the end of the fitted sizes that it lies beyond."""
        if log_size >= math.log(self.largest):
            return self.largest
        return max(self.smallest, math.exp(log_size))


@dataclass(frozen=True, slots=True)
class Fit:
    """A power law with 95% intervals of its parameters."""

    law: PowerLaw
    scale: tuple[float, float]
    alpha: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Multiplier:
    """SFT needs `value` times the problems of a method for the same error, 95% between `low` and `high`.

    Read between `least` and `most` alone, the sizes SFT was measured at over the method's: one of these as a value says
    no more than that the reading lies there or beyond.
    """

    value: float
    low: float
    high: float
    least: float
    most: float
    outside: float  # share of resamples whose reading lies beyond


def fit_law(sizes: Sequence[float], errors: Sequence[float]) -> PowerLaw:
    """Least squares of log err on log D. Needs two different sizes and errors above 0."""
    x, y = np.asarray(sizes, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"{x.size} sizes and {y.size} errors: give one error a size")
    if len(set(x.tolist())) < 2:
        raise ValueError("a scaling curve needs errors at two different sizes at least")
    if not (np.isfinite(x).all() and (x > 0).all()):
        raise ValueError("sizes must be above 0")
    for size, error in zip(x, y, strict=True):
        if not error > 0:
            raise ValueError(
                f"error {error:g} at {size:g} problems: a power law needs errors above 0; test on more problems"
            )
    slope, intercept = _lines(np.log(x), np.log(y)[None])
    return PowerLaw(math.exp(float(intercept[0])), -float(slope[0]), float(x.min()), float(x.max()))


def _lines(x: Array, y: Array) -> tuple[Array, Array]:
    """Least squares lines. x: [points], y: [lines, points]; returns slopes and intercepts, [lines] each."""
    centred = x - x.mean()
    slope = y @ centred / (centred @ centred)
    return slope, y.mean(axis=1) - slope * x.mean()


def fit(points: Sequence[Point], resamples: int = RESAMPLES, seed: int = 0) -> Fit:
    """Fit the curve of one method, with intervals over test problems."""
    law = fit_law([p.size for p in points], [p.error for p in points])
    slopes, intercepts = _resampled(points, [], resamples, seed)[:2]
    return Fit(law, percentiles(np.exp(intercepts)), percentiles(-slopes))


def _resampled(
    points: Sequence[Point], others: Sequence[Point], resamples: int, seed: int
) -> tuple[Array, Array, Array]:
    """Resampled curves of `points`: slopes, intercepts [resamples]; and log errors of `others` [others, resamples].

    A resample in which nothing was wrong counts half a problem, the least a test of this size can tell from none.
    """
    series = [p.errors for p in (*points, *others)]
    if len({len(errors) for errors in series}) != 1:
        raise ValueError("all points must be measured on the same test problems, in the same order")
    floor = 0.5 / len(series[0])
    logs = np.log(np.maximum(resampled_means(np.stack(series), resamples, seed), floor))
    slopes, intercepts = _lines(np.log([p.size for p in points]), logs[: len(points)].T)
    return slopes, intercepts, logs[len(points) :]


def multiplier(baseline: Sequence[Point], point: Point, resamples: int = RESAMPLES, seed: int = 0) -> Multiplier:
    """How many times less data the method of `point` needed than the baseline's fitted curve.

    Raises OutOfRange where the curve does not fall.
    """
    law = fit_law([p.size for p in baseline], [p.error for p in baseline])
    needed = math.inf if point.error == 0 and law.alpha > 0 else law.size(point.error)
    slopes, intercepts, logs = _resampled(baseline, [point], resamples, seed)
    falling = slopes < 0
    if falling.mean() < 1 - UNUSABLE:
        raise OutOfRange(
            f"the baseline's curve falls in only {falling.mean():.0%} of resamples: "
            "more test problems or sizes are needed"
        )
    reading = np.full(resamples, math.inf)  # log of the size the baseline needs: endless where its curve does not fall
    reading[falling] = (logs[0, falling] - intercepts[falling]) / slopes[falling]
    inside = (reading >= math.log(law.smallest)) & (reading <= math.log(law.largest))
    low, high = (law.within(end) / point.size for end in percentiles(reading))
    least, most = law.smallest / point.size, law.largest / point.size
    value = law.within(math.log(needed)) / point.size
    return Multiplier(value, low, high, least, most, 1 - float(inside.mean()))
