"""Accuracy against the number of training problems, for every method: the fitted curves and how much data each saved.

What arXiv 2406.14532 shows as its headline: RFT reaches SFT's error with 1/2, per-step DPO with 1/8 of the problems.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from app.errors import UserError
from app.evaluation.intervals import wilson
from app.evaluation.scaling import OutOfRange, Point, fit, multiplier
from app.records import JUDGED

BASELINE = "sft"

Greedy = Mapping[tuple[int, str], str]  # (seed of the run, problem id) -> outcome of the greedy trace


def points(measured: Mapping[str, Mapping[int, Greedy]]) -> tuple[dict[str, list[Point]], int]:
    """Points by method, smallest size first, over the problems that were decided at every point; and how many were not.

    Args:
        measured: greedy outcomes by method and size. Every point must have been asked the same problems.

    Raises:
        UserError: points were measured on different problems, or none was decided everywhere.
    """
    tables = {(method, size): greedy for method, sizes in measured.items() for size, greedy in sizes.items()}
    asked = _one_test(tables)
    decided = sorted(key for key in asked if all(table[key] in JUDGED for table in tables.values()))
    if not decided:
        raise UserError(
            f"none of {len(asked)} test problems was decided at every point (the verifier timed out or failed): "
            "look at the verdicts of the evaluation stages, or give evaluation more problems"
        )
    found = {
        method: [Point(size, _errors(sizes[size], decided)) for size in sorted(sizes)]
        for method, sizes in measured.items()
    }
    return found, len(asked) - len(decided)


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


def _errors(greedy: Greedy, keys: list[tuple[int, str]]) -> Any:
    return np.array([greedy[key] != "correct" for key in keys], dtype=np.float64)


def curve(measured: Mapping[str, Mapping[int, Greedy]]) -> dict[str, Any]:
    """Everything the figure shows, as JSON values: errors, fits, and for each method and size the data saved.

    A reading that the baseline's curve cannot give holds a `reason` instead of a value. Readings beyond the sizes the
    baseline was trained on are marked `extrapolated`.
    """
    found, undecided = points(measured)
    baseline = found.get(BASELINE, [])
    return {
        "baseline": BASELINE,
        "problems": len(next(iter(found.values()))[0].errors),
        "undecided": undecided,
        "methods": {
            method: {
                "points": [_point(p) | {"saved": None if method == BASELINE else _saved(baseline, p)} for p in series],
                "fit": _fit(series),
            }
            for method, series in found.items()
        },
    }


def _point(point: Point) -> dict[str, Any]:
    low, high = wilson(int(point.errors.sum()), len(point.errors))
    return {"size": int(point.size), "error": point.error, "low": low, "high": high}


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


def _saved(baseline: list[Point], point: Point) -> dict[str, Any]:
    """How many times less data than the baseline, beyond its sizes too; or the reason why that cannot be read."""
    if len(baseline) < 2:
        return {"value": None, "reason": f"{BASELINE} was trained at fewer than two sizes"}
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
