"""What a study's points tell: curves over the number of training problems, greedy and of draws, and what they took."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.errors import UserError
from app.evaluation.curve import Asked, curve
from app.report.colours import colours
from app.report.results import baseline_of, titles
from app.study.cells import Point
from app.study.ledger import Entry, Ledger

FORMAT = 1  # of results.json; bumped when a key changes its meaning

Table = dict[str, dict[int, dict[Asked, float | None]]]  # errors by series, size, seed and problem


@dataclass(frozen=True)
class Series:
    """The points of one line of a figure: one run, at all sizes and seeds."""

    title: str
    run: str
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
        lines: dict[str, list[Point]] = {}
        for point in own:
            lines.setdefault(_title(point, keys), []).append(point)
        found += [Series(title, run, tuple(line)) for title, line in lines.items()]
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


def _title(point: Point, keys: Sequence[str]) -> str:
    name = titles(point.cell.recipe, [point.run])[point.run]
    values = point.cell.values
    told = [f"{key.removeprefix(f'runs.{point.run}.')} {values[key]}" for key in keys if key in values]
    return ", ".join([name, *told])


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


def results(name: str, size: str, series: Sequence[Series], against: str, ledger: Ledger) -> dict[str, Any]:
    """All that the page shows, as JSON values, from finished points alone.

    Args:
        size: the key of the recipe that counts training problems.
        against: title of the line that the others are read against.

    Raises:
        UserError: an entry cannot be read, or points were tested on different problems.
    """
    entries = {point.key: ledger.entry(point.key) for line in series for point in line.points}
    ids = {entry.problems: ledger.ids(entry) for entry in entries.values()}
    greedy, drawn = Table(), Table()
    for line in series:
        for point in line.points:
            entry, place = entries[point.key], (line.title, point.cell.size)
            _put(greedy, place, point, ids[entry.problems], entry.errors)
            if entry.draws:
                _put(drawn, place, point, ids[entry.problems], entry.drawn_errors)
    draws = {entry.draws for entry in entries.values()}
    curves = {"greedy": greedy} | ({"drawn": drawn} if 0 not in draws else {})
    steps = _steps(series, entries)
    seconds = {stage["key"]: stage["seconds"] for entry in entries.values() for stage in entry.stages.values()}
    return {
        "format": FORMAT,
        "study": name,
        "size": size,
        "order": [line.title for line in series],
        "draws": sorted(draws),
        "seeds": sorted({entry.seed for entry in entries.values()}),
        "points": len(entries),
        "seconds": sum(seconds.values()),
        "versions": _versions(entries.values()),
        "curves": {of: _shown(curve(table, against), series, steps) for of, table in curves.items()},
    }


def _put(table: Table, place: tuple[str, int], point: Point, ids: Sequence[str], errors: list[float | None]) -> None:
    seed = point.cell.recipe.seed
    rows = table.setdefault(place[0], {}).setdefault(place[1], {})
    rows.update({(seed, problem): error for problem, error in zip(ids, errors, strict=True)})


def _steps(series: Sequence[Series], entries: Mapping[str, Entry]) -> dict[tuple[str, int], int]:
    """Optimiser steps of a point and of the policies it started from, the mean over seeds."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for line in series:
        for point in line.points:
            stages = entries[point.key].stages.items()
            steps = sum(stage["steps"] for name, stage in stages if name.startswith("training/"))
            found.setdefault((line.title, point.cell.size), {})[point.key] = steps
    return {place: round(sum(by_key.values()) / len(by_key)) for place, by_key in found.items()}


def _shown(found: dict[str, Any], series: Sequence[Series], steps: Mapping[tuple[str, int], int]) -> dict[str, Any]:
    """A curve with the names, colours and optimiser steps that its table and figure show."""
    for title, line in found["methods"].items():
        for point in line["points"]:
            point["steps"] = steps[title, point["size"]]
    names = {line.title: line.title for line in series}
    return found | {"titles": names, "colours": _colours(series)}


def _colours(series: Sequence[Series]) -> dict[str, tuple[str, str]]:
    """A run's own colour for its first line, the palette for others."""
    first: dict[str, str] = {}
    for line in series:
        first.setdefault(line.run, line.title)
    names = {line.title: line.run if first[line.run] == line.title else line.title for line in series}
    found = colours(series[0].points[0].cell.recipe, list(names.values()))
    return {title: found[name] for title, name in names.items()}


def _versions(entries: Any) -> dict[str, list[str]]:
    """Every version of each library that points were made with."""
    found: dict[str, set[str]] = {}
    for entry in entries:
        for library, version in entry.versions.items():
            found.setdefault(library, set()).add(version)
    return {library: sorted(versions) for library, versions in sorted(found.items())}
