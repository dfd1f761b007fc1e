"""What a study's points tell: curves over the number of training problems, greedy and of draws, and what they took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.evaluation.curve import Asked, curve, differences
from app.report.colours import colours
from app.study.cells import Point
from app.study.ledger import Entry, Ledger
from app.study.series import Series
from app.study.sweeps import sweeps

FORMAT = 1  # of results.json; bumped when a key changes its meaning

Table = dict[str, dict[int, dict[Asked, float | None]]]  # errors by series, size, seed and problem


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
        "split": series[0].points[0].cell.recipe.evaluation.split,
        "order": [line.title for line in series],
        "draws": sorted(draws),
        "seeds": sorted({entry.seed for entry in entries.values()}),
        "points": len(entries),
        "seconds": sum(seconds.values()),
        "versions": _versions(entries.values()),
        "curves": {of: _curve(table, against, series, steps) for of, table in curves.items()},
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
            steps = sum(stage.get("steps", 0) for name, stage in stages if name.startswith("training/"))
            found.setdefault((line.title, point.cell.size), {})[point.key] = steps
    return {place: round(sum(by_key.values()) / len(by_key)) for place, by_key in found.items()}


def _curve(
    table: Table, against: str, series: Sequence[Series], steps: Mapping[tuple[str, int], int]
) -> dict[str, Any]:
    """Readings of one kind of error, with the names, colours and optimiser steps that table and figures show."""
    found = curve(table, against)
    for title, line in found["methods"].items():
        for point in line["points"]:
            point["steps"] = steps[title, point["size"]]
    return found | {
        "titles": {title: title for title in (against, *(line.title for line in series))},
        "colours": _colours(series),
        "differences": differences(table),
        "sweeps": sweeps(series, table),
    }


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
