"""Names that stay: links that follow the recipe, and the index of a run in object storage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.errors import UserError
from app.graph import build
from app.named import name_all, told
from app.pipeline import needed
from app.plan import Step, plan
from app.recipe import Recipe
from app.store import Output
from tests.runs import TINY


def made(root: str, **parts: object) -> tuple[Recipe, list[Step]]:
    """A recipe whose runs are all trained, as far as their files tell."""
    recipe = Recipe.model_validate(TINY | parts)
    for step in plan(build(recipe), root):
        if step.stage.kind in ("training", "datasets"):
            for name in ("model/config.json", "part-00000.parquet", "trl.jsonl"):
                with step.output.atomic(name) if "/" not in name else _inside(step.output, name) as sink:
                    sink.write(step.output.key.encode())
            step.output.finish({"shards": 1, "counts": {}, "finished": "", "settings": {}, "inputs": {}, "revision": 1})
    return recipe, plan(build(recipe), root)


def _inside(output: Output, name: str):
    folder, _, file = name.rpartition("/")
    return Output(output.root, output.stage, f"{output.key}/{folder}").atomic(file)


def test_names_follow_the_recipe(tmp_path: Path) -> None:
    root = tmp_path / "tiny"
    first, steps = made(str(root))
    found = name_all(first, str(root), steps)
    assert set(found["models"]) == {"sft", "step_dpo"}
    model, pairs = root / "models" / "step_dpo" / "config.json", root / "data" / "step_dpo.jsonl"
    keys = {step.stage.name: step.output.key for step in steps}
    assert model.read_text() == keys["training/step_dpo"] and pairs.read_text() == keys["datasets/step_dpo"]
    assert json.loads((root / "index.json").read_text()) == found
    assert "models: " in told(str(root), found)[0] and "(sft, step_dpo)" in told(str(root), found)[0]
    other, steps = made(str(root), seed=1)
    name_all(other, str(root), steps)
    assert model.read_text() == {step.stage.name: step.output.key for step in steps}["training/step_dpo"]
    root.rename(tmp_path / "moved")  # links are relative
    assert (tmp_path / "moved" / "models" / "sft" / "config.json").is_file()


def test_something_of_the_users_is_left_alone(tmp_path: Path) -> None:
    recipe, steps = made(str(tmp_path / "tiny"))
    (tmp_path / "tiny" / "models" / "sft").mkdir(parents=True)
    with pytest.raises(UserError, match="models/sft: not a link of this run; move it away"):
        name_all(recipe, str(tmp_path / "tiny"), steps)


def test_a_run_in_object_storage_has_an_index(bucket: str) -> None:
    recipe, steps = made(f"{bucket}/runs/tiny")
    name_all(recipe, f"{bucket}/runs/tiny", steps)
    index = Output(f"{bucket}/runs/tiny", "", "").read_json("index.json")
    assert index["data"]["sft.jsonl"].startswith(bucket) and index["models"]["sft"].endswith("/model")


def test_until_takes_what_a_stage_needs(tmp_path: Path) -> None:
    steps = plan(build(Recipe.model_validate(TINY)), str(tmp_path))
    wanted = needed(steps, "credit")
    assert wanted == {
        *("problems", "synthesis", "datasets/sft", "training/sft"),
        *("sampling/sft", "verification/sft", "credit/sft"),
    }
    with pytest.raises(UserError, match=r"--until credits: no such stage in this recipe \(did you mean 'credit"):
        needed(steps, "credits")
