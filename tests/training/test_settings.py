"""Evaluation during training as a recipe asks for it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from app.errors import UserError
from app.graph import build
from app.recipe import Recipe
from app.stage import Stage
from app.training.settings import TrainPlacement, TrainSettings

EARLY = {"evaluate_every": 10, "patience": 3}


def recipe(problems: dict[str, Any] | None = None, max_tokens: int = 512, **sft: Any) -> Recipe:
    counts = {"train": 6, "validation": 4, "test": 4} | (problems or {})
    runs = {"sft": {"method": "sft", "steps": 30, **sft}}
    return Recipe.model_validate(
        {
            "name": "r",
            "problems": {"source": {"kind": "world"}, **counts},
            "runs": runs,
            "evaluation": {"max_tokens": max_tokens},
        }
    )


def training_stage(recipe: Recipe) -> Stage:
    return next(stage for stage in build(recipe) if stage.name == "training/sft")


def key(recipe: Recipe) -> str:
    stage = training_stage(recipe)
    return stage.key(dict.fromkeys(stage.inputs, "same"))


def test_patience_without_evaluations_is_refused() -> None:
    with pytest.raises(ValidationError, match="patience needs evaluate_every"):
        TrainSettings(steps=3, patience=2)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"overlap_comm": True}, "overlap_comm: needs zero_stage"),
        ({"zero_hpz_partition_size": 2, "workers": 4}, "needs zero_stage 3"),
        ({"zero_hpz_partition_size": 3, "workers": 4, "zero_stage": 3}, "whole groups of 3"),
        ({"compile": True, "zero_stage": 3}, "compile: not with zero_stage 3"),
        ({"activation_offload": True}, "activation_offload: only on GPUs"),
        ({"backend": "torch", "zero_hpz_partition_size": 2}, "needs zero_stage 3"),
    ],
)
def test_knobs_without_effect_are_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TrainPlacement.model_validate(asked)


def test_an_optimizer_decides_the_key_and_its_defaults_do_not() -> None:
    stage = training_stage(recipe())
    assert not {"optimizer", "betas", "decays"} & stage.settings.keys()
    others = [recipe(optimizer="adamw_8bit"), recipe(betas=(0.9, 0.99)), recipe(weight_decay=0.1)]
    assert len({key(recipe()), *map(key, others)}) == 4
    assert key(recipe(optimizer="adamw", betas=(0.9, 0.95))) == key(recipe())


def test_evaluations_read_the_problems_and_bring_their_evaluator() -> None:
    plain, early = training_stage(recipe()), training_stage(recipe(**EARLY))
    assert "held_out" not in plain.inputs and "evaluator" not in plain.options
    assert "held_out" in early.inputs and early.options["evaluator"] == "app.evaluation.during"


def test_what_decides_the_evaluations_decides_the_key() -> None:
    longer, more_patient = recipe(max_tokens=7, **EARLY), recipe(**{**EARLY, "patience": 4})
    assert len({key(recipe()), key(recipe(**EARLY)), key(longer), key(more_patient)}) == 4
    assert key(recipe(max_tokens=7)) == key(recipe())


def test_no_validation_problems_are_noticed_before_anything_runs() -> None:
    with pytest.raises(UserError, match=r"runs.sft.evaluate_every: no validation problems; raise problems.validation"):
        build(recipe({"validation": 0}, **EARLY))


def test_a_run_starts_from_whole_weights_only() -> None:
    """An adapter alone is served, but no other method can start from it."""
    changes = {"lora": {"merge": False}}
    plain = recipe(**changes).model_dump()
    build(Recipe.model_validate(plain))
    follower = {"runs": {**plain["runs"], "more": {"method": "sft", "init": "sft", "steps": 1}}}
    with pytest.raises(UserError, match=r"runs\.sft\.lora\.merge is false: runs\.more starts from it"):
        build(Recipe.model_validate({**plain, **follower}))


def test_only_known_boards() -> None:
    assert TrainPlacement.model_validate({"trackers": ["tensorboard"]}).trackers == ("tensorboard",)
    with pytest.raises(ValidationError):
        TrainPlacement.model_validate({"trackers": ["tensorbord"]})
