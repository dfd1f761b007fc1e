"""The cells of a study, each a recipe, and its points: trained policies of cells, by the key of their evaluation."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from app.errors import UserError, nearest
from app.graph import build, check
from app.plan import flat, keys_of
from app.recipe import Recipe, load
from app.study.settings import Part, Study


@dataclass(frozen=True)
class Cell:
    """A recipe of the study and the runs of it that are measured."""

    values: Mapping[str, Any]  # what it sets, by key of the recipe
    recipe: Recipe
    runs: tuple[str, ...]
    size: int  # training problems

    @property
    def title(self) -> str:
        """`synthesis.count=250, seed=0`."""
        return told(self.values) or "the recipe as it is"


@dataclass(frozen=True)
class Point:
    """One trained policy of a cell. Points of one key are one policy on one test, whatever else their cells set."""

    key: str  # of its evaluation stage: covers all that lies upstream
    run: str
    cell: Cell
    stage: str  # name of its evaluation stage


def told(values: Mapping[str, Any]) -> str:
    """Settings in one line."""
    return ", ".join(f"{key}={value}" for key, value in values.items())


def cells(study: Study, recipe: str, where: str) -> list[Cell]:
    """All cells, seed after seed, the smallest size first; what two parts of the study name alike is there once.

    Args:
        recipe: the recipe's file.
        where: the study's file, for messages.

    Raises:
        UserError: a recipe is not valid, or a run is not there; with the file and what the cell sets.
    """
    found: dict[str, Cell] = {}
    for part in (Part(), *study.points):
        axes = study.axes | part.axes
        for values in itertools.product(*axes.values()):
            chosen = dict(zip(axes, values, strict=True)) | part.set
            cell = _cell(study, part, chosen, recipe, where)
            name = json.dumps(chosen, sort_keys=True, default=str)
            if other := found.get(name):
                cell = Cell(cell.values, cell.recipe, tuple(dict.fromkeys((*other.runs, *cell.runs))), cell.size)
            found[name] = cell
    sizes = {cell.size for cell in found.values()}
    for size in study.by_size:
        if size not in sizes:
            raise UserError(f"{where}: by_size.{size}: no cell has that size{nearest(str(size), map(str, sizes))}")
    return sorted(found.values(), key=lambda cell: (cell.recipe.seed, cell.size))


def _cell(study: Study, part: Part, chosen: dict[str, Any], path: str, where: str) -> Cell:
    try:
        recipe = load(path, _overrides(study.set | chosen))
        size = _size(study, recipe)
        if size in study.by_size:
            recipe = load(path, _overrides(study.set | study.by_size[size] | chosen))
        check(recipe)  # now, not after the smaller sizes ran
        return Cell(chosen, recipe, _runs(part.runs or study.runs, recipe), size)
    except UserError as error:
        lines = str(error).splitlines()
        raise UserError("\n".join(f"{where}: at {told(chosen)}: {line}" for line in lines)) from None


def _overrides(values: Mapping[str, Any]) -> list[str]:
    return [f"{key}={_yaml(value)}" for key, value in values.items()]


def _yaml(value: Any) -> str:
    """A value on one line. JSON would not do: its 1e-05 is a text in YAML."""
    return yaml.safe_dump([value], default_flow_style=True, width=math.inf).strip()[1:-1]


def _runs(named: Sequence[str], recipe: Recipe) -> tuple[str, ...]:
    """The runs that are measured. Raises UserError where one is not there or trains nothing."""
    trained = [name for name, run in recipe.trained().items() if run.training]
    for name in named:
        if name not in trained:
            raise UserError(f"runs: no run {name} that trains{nearest(name, trained)}")
    return tuple(name for name in trained if not named or name in named)


def size_key(named: str | None, recipe: Recipe) -> str:
    """The key of the recipe that counts training problems: the one that a study names, or the usual one."""
    return named or ("synthesis.count" if recipe.synthesis else "problems.train")


def _size(study: Study, recipe: Recipe) -> int:
    key = size_key(study.size, recipe)
    value = flat(recipe.model_dump(mode="json")).get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise UserError(f"{key}: the size of a cell must be a whole number, this is {value!r}; give it as an axis")
    return value


def points_of(cell: Cell) -> list[Point]:
    """The points of a cell, in the order in which they can be made."""
    stages = build(cell.recipe)
    keys, shown = keys_of(stages), stages[-1].options["shown"]
    names = {run: str(shown[run]["evaluation"]) for run in cell.runs}
    return [Point(keys[stage], run, cell, stage) for run, stage in names.items()]
