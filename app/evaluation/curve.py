"""Accuracy against the number of training problems, for every method: the fitted curves and how much data each saved.

What arXiv 2406.14532 shows as its headline: RFT reaches SFT's error with 1/2, per-step DPO with 1/8 of the problems.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from app.errors import UserError
from app.evaluation.scaling import OutOfRange, Point, fit, multiplier
from app.records import JUDGED
from app.statistics import Array, percentiles, resampled_means, wilson

Greedy = Mapping[tuple[int, str], str]  # (seed of the run, problem id) -> outcome of the greedy trace


def points(measured: Mapping[str, Mapping[int, Greedy]]) -> tuple[dict[str, list[Point]], int]:
    """Points by method, smallest size first, and how many answers were not decided at every point.

    What is measured is a problem: its error is the mean over the seeds it was asked under. Further seeds are no further
    problems, and do not narrow an interval.

    Args:
        measured: greedy outcomes by method and size. Every point must have been asked the same problems.

    Raises:
        UserError: points were measured on different problems, or none was decided everywhere.
    """
    decided, asked = _decided(measured)
    found = {
        method: [Point(size, _errors(sizes[size], decided)) for size in sorted(sizes)]
        for method, sizes in measured.items()
    }
    return found, asked - len(decided)


def _decided(measured: Mapping[str, Mapping[int, Greedy]]) -> tuple[list[tuple[int, str]], int]:
    """What was decided at every point, in order, and how much was asked. Raises UserError as `points` does."""
    tables = {(method, size): greedy for method, sizes in measured.items() for size, greedy in sizes.items()}
    asked = _one_test(tables)
    decided = sorted(key for key in asked if all(table[key] in JUDGED for table in tables.values()))
    if not decided:
        raise UserError(
            f"none of {len(asked)} test problems was decided at every point (the verifier timed out or failed): "
            "look at the verdicts of the evaluation stages, or give evaluation more problems"
        )
    return decided, len(asked)


def _one_test(tables: Mapping[tuple[str, int], Greedy]) -> set[tuple[int, str]]:
    """The problems all points were asked: they share one bootstrap, so they must be the same."""
    (first, asked), *others = ((point, set(table)) for point, table in tables.items())
    for point, found in others:
        if found != asked:
            (method, size), (other, smaller) = point, first
            raise UserError(
                f"{method} at {size} was tested on other problems than {other} at {smaller} "
                f"({len(found - asked)} only there, {len(asked - found)} only here): a curve needs one test. "
                "Give problems.source and evaluation so that every size has the same, and run the curve again"
            )
    return asked


def _errors(greedy: Greedy, keys: list[tuple[int, str]]) -> Array:
    """Error of each problem, the mean over its seeds; problems in order of their ids."""
    wrong: dict[str, list[bool]] = {}
    for key in keys:
        wrong.setdefault(key[1], []).append(greedy[key] != "correct")
    return np.array([np.mean(wrong[problem]) for problem in sorted(wrong)], dtype=np.float64)


def errors_by_seed(greedy: Greedy, keys: list[tuple[int, str]]) -> dict[int, float]:
    """Error of each seed's own policy over what it was asked: how far apart trainings alone may end."""
    wrong: dict[int, list[bool]] = {}
    for key in keys:
        wrong.setdefault(key[0], []).append(greedy[key] != "correct")
    return {seed: float(np.mean(wrong[seed])) for seed in sorted(wrong)}


def curve(measured: Mapping[str, Mapping[int, Greedy]], baseline: str) -> dict[str, Any]:
    """Everything the figure shows, as JSON values: errors, fits, and for each method and size the data saved.

    A reading that the baseline's curve cannot give holds a `reason` instead of a value. Readings beyond the sizes the
    baseline was trained on are marked `extrapolated`. Intervals are over test problems; `seeds` of a point holds the
    error of each seed, apart from them.

    Args:
        measured: greedy outcomes by policy and size.
        baseline: the policy whose sizes the others' savings are read in.
    """
    found, undecided = points(measured)
    decided, _ = _decided(measured)
    reference = found.get(baseline, [])
    return {
        "baseline": baseline,
        "problems": len(next(iter(found.values()))[0].errors),
        "undecided": undecided,
        "methods": {
            method: {
                "points": [
                    _point(p, errors_by_seed(measured[method][int(p.size)], decided))
                    | {"saved": None if method == baseline else _saved(baseline, reference, p)}
                    for p in series
                ],
                "fit": _fit(series),
            }
            for method, series in found.items()
        },
    }


def _point(point: Point, seeds: Mapping[int, float]) -> dict[str, Any]:
    if np.isin(point.errors, (0.0, 1.0)).all():
        low, high = wilson(int(point.errors.sum()), len(point.errors))
    else:  # seeds that differ on a problem make its error a share, to which Wilson's interval does not apply
        low, high = percentiles(resampled_means(point.errors))
    told = {str(seed): error for seed, error in seeds.items()}
    return {"size": int(point.size), "error": point.error, "low": low, "high": high, "seeds": told}


def _fit(series: list[Point]) -> dict[str, Any] | None:
    if len(series) < 2 or any(point.error == 0 for point in series):
        return None
    found = fit(series)
    return {
        "scale": found.law.scale,
        "alpha": found.law.alpha,
        "alpha_interval": list(found.alpha),
        "smallest": int(found.law.smallest),
        "largest": int(found.law.largest),
    }


def _saved(name: str, baseline: list[Point], point: Point) -> dict[str, Any]:
    """How many times less data than the baseline, beyond its sizes too; or the reason why that cannot be read."""
    if len(baseline) < 2:
        return {"value": None, "reason": f"{name} was trained at fewer than two sizes"}
    try:
        found = multiplier(baseline, point, extrapolate=True)
    except (OutOfRange, ValueError) as error:
        return {"value": None, "reason": str(error)}
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "equivalent": found.equivalent,
        "extrapolated": found.extrapolated,
    }
