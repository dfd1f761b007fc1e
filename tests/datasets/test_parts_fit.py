"""Which stages the recipe's data set parts ask for, and what they need."""

from __future__ import annotations

import pytest

from app.errors import UserError
from app.graph import build
from tests.credit import student as world

TRAINING = {"rft": {"init": "base", "steps": 1, "batch": 1, "micro_batch": 1, "learning_rate": 1e-3}}


def inputs(**parts: dict) -> dict[str, tuple[str, ...]]:
    """Inputs of each stage of the recipe."""
    return {stage.name: stage.inputs for stage in build(world.recipe(training=TRAINING, **parts))}


def test_step_labels_are_made_where_asked_for() -> None:
    assert "datasets/prm" not in inputs()
    assert {"sampling", "verification", "credit"} <= set(inputs(datasets={"prm": {}})["datasets/prm"])


def test_rft_reads_credit_only_for_filters_that_need_it() -> None:
    assert "credit" not in inputs()["datasets/rft"]
    assert "credit" not in inputs(datasets={"rft": {"drop_wrong_sums": True}})["datasets/rft"]
    for how in ({"drop_lucky_wrong": True}, {"max_no_progress": 0.5}):
        assert "credit" in inputs(datasets={"rft": how}, credit={"correct_traces": 1})["datasets/rft"]


@pytest.mark.parametrize("how", [{"drop_lucky_wrong": True}, {"max_no_progress": 0.5}])
def test_a_filter_without_right_traces_to_look_at_is_an_error(how: dict) -> None:
    with pytest.raises(UserError, match=r"datasets\.rft\.\w+: set credit\.correct_traces above 0"):
        inputs(datasets={"rft": how})


def test_step_labels_without_credit_are_an_error() -> None:
    recipe = world.recipe(training=TRAINING, datasets={"prm": {}}).model_copy(update={"credit": None})
    with pytest.raises(UserError, match="datasets.prm needs credit: add a credit part"):
        build(recipe)
