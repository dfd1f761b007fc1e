"""Accuracy against the number of training problems, for every method: the fitted curves and how much data each saved.

What arXiv 2406.14532 shows as its headline: RFT reaches SFT's error with 1/2, per-step DPO with 1/8 of the problems.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import combinations
from typing import Any, TypeVar

import numpy as np

from app.errors import UserError
from app.evaluation.scaling import OutOfRange, Point, fit, multiplier
from app.records import JUDGED
from app.statistics import Array, percentiles, resampled_means, wilson

Asked = tuple[int, str]  # seed of the run, problem id
Errors = Mapping[Asked, float | None]  # 0 to 1: of the greedy answer, or the share of draws; None: undecided
Measured = Mapping[str, Mapping[int, Errors]]  # by method and size


def error_of(outcome: str) -> float | None:
    """The error of one answer; None where it was not decided."""
    return float(outcome != "correct") if outcome in JUDGED else None


def points(measured: Measured) -> tuple[dict[str, list[Point]], int]:
    """Points by method, smallest size first, and how many answers are left out.

    A problem counts by the seeds under which all points that were asked it were decided. What is measured is a problem:
    its error is the mean over the seeds it was asked under. Further seeds are no further problems, and do not narrow an
    interval.

    Args:
        measured: every point must have been asked the same problems; under which seeds may differ.

    Raises:
        UserError: points were measured on different problems, or none was decided everywhere.
    """
    asked = {key for sizes in measured.values() for errors in sizes.values() for key in errors}
    decided = _decided(measured)
    found = {
        method: [Point(size, _errors(sizes[size], decided)) for size in sorted(sizes)]
        for method, sizes in measured.items()
    }
    return found, len(asked) - len(decided)


def _decided(measured: Measured) -> list[Asked]:
    """What counts, in order. Raises UserError as `points` does."""
    tables = {(method, size): errors for method, sizes in measured.items() for size, errors in sizes.items()}
    problems = _one_test(tables)
    undecided = {key for errors in tables.values() for key, error in errors.items() if error is None}
    for errors in tables.values():
        problems &= {problem for seed, problem in errors.keys() - undecided}
    if not problems:
        raise UserError(
            "not one test problem was decided at every point (the verifier timed out or failed): "
            "look at the verdicts of the evaluation stages, or give evaluation more problems"
        )
    asked = {key for errors in tables.values() for key in errors}
    return sorted(key for key in asked - undecided if key[1] in problems)


def _one_test(tables: Mapping[tuple[str, int], Errors]) -> set[str]:
    """The problems all points were asked: they share one bootstrap, so they must be the same."""
    (first, asked), *others = ((point, {problem for _, problem in table}) for point, table in tables.items())
    for point, found in others:
        if found != asked:
            (method, size), (other, smaller) = point, first
            raise UserError(
                f"{method} at {size} was tested on other problems than {other} at {smaller} "
                f"({len(found - asked)} only there, {len(asked - found)} only here): a curve needs one test. "
                "Give problems.source and evaluation so that every point has the same, and run it again"
            )
    return set(asked)


def _errors(errors: Errors, decided: list[Asked]) -> Array:
    """Error of each problem, the mean over its seeds; problems in order of their ids."""
    return np.array(list(_means(errors, decided, lambda key: key[1]).values()), dtype=np.float64)


def errors_by_seed(errors: Errors, decided: list[Asked]) -> dict[int, float]:
    """Error of each seed's own policy over what it was asked: how far apart trainings alone may end."""
    return _means(errors, decided, lambda key: key[0])


K = TypeVar("K", int, str)


def _means(errors: Errors, decided: list[Asked], group: Callable[[Asked], K]) -> dict[K, float]:
    """Mean errors by group, in order."""
    found: dict[K, list[float]] = {}
    for key in decided:
        error = errors.get(key)
        if error is not None:
            found.setdefault(group(key), []).append(error)
    return {name: float(np.mean(found[name])) for name in sorted(found)}


def told(measured: Measured) -> dict[str, list[dict[str, Any]]]:
    """The points of each method as JSON values: size, error, its interval over problems, and the error of each seed."""
    found, _ = points(measured)
    decided = _decided(measured)
    return {
        method: [_point(p, errors_by_seed(measured[method][int(p.size)], decided)) for p in series]
        for method, series in found.items()
    }


def differences(measured: Measured) -> list[dict[str, Any]]:
    """Each method's error minus that of each one before it, at every size of both, paired by problem.

    `low` and `high` are over problems; `seeds` holds the difference of the seeds' own policies.
    """
    found = {(method, int(point.size)): point for method, series in points(measured)[0].items() for point in series}
    shown = {(method, point["size"]): point for method, line in told(measured).items() for point in line}
    out: list[dict[str, Any]] = []
    for size in sorted({size for _, size in found}):
        names = [method for method in measured if size in measured[method]]
        draws = resampled_means(np.stack([found[name, size].errors for name in names]))
        for (i, other), (j, method) in combinations(enumerate(names), 2):
            low, high = percentiles(draws[j] - draws[i])
            ours, theirs = shown[method, size], shown[other, size]
            both = [seed for seed in ours["seeds"] if seed in theirs["seeds"]]
            seeds = {seed: ours["seeds"][seed] - theirs["seeds"][seed] for seed in both}
            value = ours["error"] - theirs["error"]
            ends = {"difference": value, "low": low, "high": high, "seeds": seeds}
            out.append({"size": size, "method": method, "other": other, **ends})
    return out


def curve(measured: Measured, baseline: str) -> dict[str, Any]:
    """Everything the figure shows, as JSON values: errors, fits, and for each method and size the data saved.

    A reading that the baseline's curve cannot give holds a `reason` instead of a value. Readings end at the sizes
    that the baseline was trained on, `least` and `most` as multiples. Intervals are over test problems; `seeds` of a
    point holds the error of each seed, apart from them.

    Args:
        baseline: the policy whose sizes the others' savings are read in.
    """
    found, undecided = points(measured)
    shown = told(measured)
    reference = found.get(baseline, [])
    return {
        "baseline": baseline,
        "problems": len(next(iter(found.values()))[0].errors),
        "undecided": undecided,
        "methods": {
            method: {
                "points": [
                    point | {"saved": None if method == baseline else _saved(baseline, reference, p)}
                    for point, p in zip(shown[method], series, strict=True)
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
    """How many times less data than the baseline, inside its sizes; or the reason why that cannot be read."""
    if len(baseline) < 2:
        return {"value": None, "reason": f"{name} was trained at fewer than two sizes"}
    try:
        return asdict(multiplier(baseline, point))
    except (OutOfRange, ValueError) as error:
        return {"value": None, "reason": str(error)}
