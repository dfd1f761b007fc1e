"""Which stages the runs of a recipe ask for, and what they need."""

from __future__ import annotations

import pytest

from app.errors import UserError
from app.graph import build
from tests.credit import student as world


def inputs(method: str = "rft", credit: dict | None = None, **settings: object) -> dict[str, set[str]]:
    """Roles of the inputs of each stage of a recipe with one run, named after its method."""
    run = {"method": method, **settings} | ({} if method == "prm" else {"steps": 1})
    recipe = world.recipe(runs={method: run}, credit=credit or {})
    return {stage.name: set(stage.inputs) for stage in build(recipe)}


def test_step_labels_are_made_where_asked_for() -> None:
    assert "datasets/prm" not in inputs()
    made = inputs("prm")
    assert {"sampling", "verification", "credit"} <= made["datasets/prm"] and "training/prm" not in made


def test_rft_reads_credit_only_for_filters_that_need_it() -> None:
    assert "credit" not in inputs()["datasets/rft"]
    assert "credit" not in inputs(drop_wrong_sums=True)["datasets/rft"]
    for how in ({"drop_lucky_wrong": True}, {"max_no_progress": 0.5}):
        assert "credit" in inputs(credit={"correct_traces": 1}, **how)["datasets/rft"]


@pytest.mark.parametrize("how", [{"drop_lucky_wrong": True}, {"max_no_progress": 0.5}])
def test_a_filter_without_right_traces_to_look_at_is_an_error(how: dict) -> None:
    with pytest.raises(UserError, match=r"runs\.rft\.\w+: set credit\.correct_traces above 0"):
        inputs(**how)


def test_step_labels_without_credit_are_an_error() -> None:
    recipe = world.recipe(runs={"labels": {"method": "prm"}}).model_copy(update={"credit": None})
    with pytest.raises(UserError, match="runs.labels needs step values: add a credit part"):
        build(recipe)
