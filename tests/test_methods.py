"""A method from outside the package: one entry, and a recipe may name it."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from app.errors import UserError
from app.graph import build
from app.methods import METHODS, Method, register
from app.progress import Progress
from app.recipe import load
from app.records import Problem
from app.report.colours import colours
from app.report.results import titles
from app.settings import Settings
from app.stage import StageContext
from app.store import Output
from app.training.settings import TrainSettings
from tests.credit import student as world

PLUGIN = '''
from app.methods import TEACHER, Method, register
from app.records import Example
from app.settings import Settings
from app.training.settings import TrainSettings


class ShortSettings(Settings):
    longest: int = 40  # characters of a solution


def short(sources, settings):
    """Teacher solutions that are short."""
    sources.progress.begin(1)
    render, rows = sources.renderer, []
    for problem in sources.problems.values():
        if len(problem.solution) <= settings.longest:
            ids = render.prompt_ids(problem.statement), render.completion_ids(problem.solution)
            rows.append(Example(problem.id, problem.id, None, *ids, render.prompt(problem.statement), problem.solution))
    yield Example.table(rows), {"examples": len(rows)}


register(Method("short", "short SFT", "short_method:short", ShortSettings, TrainSettings, lambda _: {TEACHER},
                ("#102030", "#a0b0c0"), "no solution is that short; raise longest"))
'''
RECIPE = """
name: outside
plugins: [short_method]
problems: {source: {kind: world}, train: 4, validation: 2, test: 4}
runs:
  short: {method: short, longest: 80, steps: 2}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "short_method.py").write_text(PLUGIN)
    (tmp_path / "outside.yaml").write_text(RECIPE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield load(str(tmp_path / "outside.yaml"))
    METHODS.pop("short", None)
    sys.modules.pop("short_method", None)


def test_a_recipe_may_name_it(recipe, tmp_path: Path) -> None:
    made = {stage.name: stage for stage in build(recipe)}
    assert {"datasets/short", "training/short", "evaluation/short"} <= set(made)
    assert made["datasets/short"].settings["longest"] == 80 and made["training/short"].settings["steps"] == 2
    assert titles(recipe, ["short"]) == {"short": "short SFT"}
    assert colours(recipe, ["base", "short"])["short"] == ("#102030", "#a0b0c0")


@pytest.mark.parametrize(("longest", "rows"), [(10_000, 12), (1, 0)])
def test_its_builder_makes_the_rows(recipe, tmp_path: Path, longest: int, rows: int) -> None:
    problems = Output(str(tmp_path), "problems", "k")
    problems.write_shard(0, Problem.table(world.problems()))
    stage = next(stage for stage in build(recipe) if stage.name == "datasets/short")
    stage.options["data"] = stage.options["method"].data(longest=longest)
    output = Output(str(tmp_path), stage.name, "k")
    inputs = {"problems": problems, "held_out": problems}
    context = StageContext(stage, recipe, inputs, output, Progress("t", io.StringIO()))
    if rows:
        stage.run(context)
        assert output.read().num_rows == rows
    else:
        with pytest.raises(UserError, match="raise longest"):
            stage.run(context)


def test_a_name_is_taken_once() -> None:
    with pytest.raises(UserError, match="method sft: there is one of that name already"):
        register(Method("sft", "mine", "x:y", Settings, None))


def test_a_setting_belongs_to_the_data_set_or_to_training() -> None:
    class Both(Settings):
        steps: int = 1

    with pytest.raises(UserError, match="both have a setting steps"):
        register(Method("both", "both", "x:y", Both, TrainSettings))
    assert "both" not in METHODS


def test_a_builder_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UserError, match="no_such_module:f cannot be imported"):
        Method("x", "x", "no_such_module:f", Settings, None).build()
