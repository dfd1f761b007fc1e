"""What a study is: a recipe at every value of some of its keys, and the folder that keeps what came out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from app.errors import UserError, nearest
from app.recipe import NAME
from app.settings import Settings, fault_lines, read_mapping

Axes = dict[str, tuple[Any, ...]]  # key of the recipe -> its values


class Part(Settings):
    """More cells: what is said here takes the place of what the study says."""

    axes: Axes = Field(default_factory=dict)  # of these keys other values; the study's other axes stay
    set: dict[str, Any] = Field(default_factory=dict)  # keys of the recipe, with one value
    runs: tuple[str, ...] = ()  # runs that are measured; none: the study's


class Study(Settings):
    """A whole study: the cells of its axes, then those of its points."""

    name: str = Field(pattern=NAME)  # of its folder under --runs
    recipe: str  # a recipe's file, or the name of a shipped one
    set: dict[str, Any] = Field(default_factory=dict)  # keys of the recipe, with one value for all cells
    by_size: dict[int, dict[str, Any]] = Field(default_factory=dict)  # the same for the cells of one size
    axes: Axes = Field(default_factory=dict)  # every value with every value of the others
    runs: tuple[str, ...] = ()  # runs that are measured; none: all that train
    points: tuple[Part, ...] = ()  # more cells, such as SFT alone at larger sizes
    size: str | None = None  # key that counts training problems; none: synthesis.count, or problems.train
    folder: str  # folder or URI of the ledger, results.json and the page

    @model_validator(mode="after")
    def _axes_have_values(self) -> Study:
        parts = [("", self.axes), *((f"points.{n}.", part.axes) for n, part in enumerate(self.points))]
        for where, axes in parts:
            for key, values in axes.items():
                if not values:
                    raise ValueError(f"{where}axes.{key}: give at least one value")
        return self


def read_study(path: str) -> Study:
    """A study file. Raises UserError with every fault on its own line."""
    file = Path(path)
    if not file.is_file():
        near = [other.name for other in file.parent.glob("*.yaml")]
        raise UserError(f"{path}: no such study file{nearest(file.name, near) if near else ''}")
    try:
        return Study.model_validate(read_mapping(file, "a study"))
    except ValidationError as error:
        raise UserError("\n".join(f"{path}: {line}" for line in fault_lines(error, Study))) from None
