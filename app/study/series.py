"""The lines of a study's figures: points of one run that differ in size and seed alone."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from app.errors import UserError
from app.report.results import baseline_of, titles
from app.study.cells import Point


@dataclass(frozen=True)
class Series:
    """The points of one line of a figure: one run, at all sizes and seeds."""

    title: str  # `RFT, per_problem 16`
    name: str  # `RFT`
    run: str
    keys: tuple[str, ...]  # of the recipe, which tell the lines of the run apart
    points: tuple[Point, ...]


def series_of(points: Sequence[Point], size: str) -> list[Series]:
    """The lines of a study, those of a run together.

    A line is named by its run and by what tells it from other lines of that run: of the keys that cells set, beside the
    size and the seed, those without which two different points would be one.
    """
    found: list[Series] = []
    for run in dict.fromkeys(point.run for point in points):
        own = [point for point in points if point.run == run]
        keys = _telling(own, size)
        name = titles(own[0].cell.recipe, [run])[run]
        lines: dict[str, list[Point]] = {}
        for point in own:
            lines.setdefault(", ".join([name, *_told(point, keys)]), []).append(point)
        found += [Series(title, name, run, tuple(keys), tuple(line)) for title, line in lines.items()]
    return found


def _telling(points: Sequence[Point], size: str) -> list[str]:
    """Keys that tell points of one run apart, as few as will do, the first ones rather than the last."""
    kept = [key for key in dict.fromkeys(key for p in points for key in p.cell.values) if key not in (size, "seed")]
    for key in reversed(list(kept)):
        fewer = [other for other in kept if other != key]
        if _apart(points, fewer):
            kept = fewer
    return kept


def _apart(points: Sequence[Point], keys: Sequence[str]) -> bool:
    """Whether no two different points have the same values of some keys, size and seed."""
    found: dict[str, str] = {}
    for point in points:
        values = [point.cell.values.get(key) for key in keys]
        place = json.dumps([values, point.cell.size, point.cell.recipe.seed], sort_keys=True, default=str)
        if found.setdefault(place, point.key) != point.key:
            return False
    return True


def _told(point: Point, keys: Sequence[str]) -> list[str]:
    """What a point's cell sets of some keys, each shortened where it is one of the point's own run."""
    values = point.cell.values
    return [f"{key.removeprefix(f'runs.{point.run}.')} {values[key]}" for key in keys if key in values]


def baseline(series: Sequence[Series], where: str) -> Series:
    """The line that others are read against: SFT's first. Raises UserError where there is none."""
    for line in series:
        if line.run == baseline_of(line.points[0].cell.recipe, [line.run]):
            return line
    raise UserError(f"{where}: runs: a study is read against SFT: measure a run of method sft")


def complete(series: Sequence[Series], there: Collection[str]) -> list[Series]:
    """The lines with the points of those seeds alone of which all points are there: what can be read fairly so far."""
    partial = {p.cell.recipe.seed for line in series for p in line.points if p.key not in there}
    left = [replace(s, points=tuple(p for p in s.points if p.cell.recipe.seed not in partial)) for s in series]
    return [line for line in left if line.points]
