"""Error against a setting: lines of one run that differ in one key alone, at one number of training problems."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from app.evaluation.curve import Measured, told
from app.plan import flat
from app.recipe import Recipe
from app.study.series import Series


def sweeps(series: Sequence[Series], measured: Measured) -> list[dict[str, Any]]:
    """Every key that tells lines of a run apart, with its values and their errors, as JSON values.

    Args:
        measured: errors by title of a line, size, seed and problem.
    """
    out = []
    for key, lines in _groups(series):
        for size in sorted({size for line in lines for size in measured[line.title]}):
            at = {value_of(line, key): measured[line.title] for line in lines if size in measured[line.title]}
            if len(at) > 1:
                names = sorted(at, key=lambda value: (isinstance(value, str), value))
                points = told({str(value): {size: at[value][size]} for value in names})
                shown = [{"value": value} | points[str(value)][0] for value in names]
                run = {"run": lines[0].run, "name": lines[0].name, "line": lines[0].title}
                out.append(run | {"key": key, "size": size, "points": shown})
    return out


def _groups(series: Sequence[Series]) -> list[tuple[str, list[Series]]]:
    """Keys with the lines of one run that agree in all other keys."""
    found: dict[str, tuple[str, list[Series]]] = {}
    for line in series:
        for key in line.keys:
            others = [value_of(line, other) for other in line.keys if other != key]
            found.setdefault(json.dumps([line.run, key, others], default=str), (key, []))[1].append(line)
    return [(key, lines) for key, lines in found.values() if len(lines) > 1]


def value_of(line: Series, key: str) -> float | str:
    """The value that a line has at a key: what its cells set, or the recipe's own."""
    cell = line.points[0].cell
    value = cell.values[key] if key in cell.values else setting(cell.recipe, key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else json.dumps(value).strip('"')


def setting(recipe: Recipe, key: str) -> Any:
    """The value that a recipe has at a dotted key, its defaults included; None where it has none."""
    if not key.startswith("runs."):
        return flat(recipe.model_dump(mode="json")).get(key)
    _, name, rest = key.split(".", 2)
    run = recipe.trained()[name]
    parts = [part.model_dump(mode="json") for part in (run.training, run.data, run.start) if part]
    return next((found[rest] for found in map(flat, parts) if rest in found), None)
