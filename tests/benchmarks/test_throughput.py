"""The throughput benchmark: what it makes of a recipe, and that it measures one."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from app.recipe import Recipe, load
from benchmarks.throughput import STEPS, options_of, smaller
from jobs.run import find_recipe

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["demo", "gsm8k_deepseek7b", "math_qwen"])
@pytest.mark.parametrize("quick", [True, False])
def test_a_recipe_cut_down_is_a_valid_recipe(name: str, quick: bool) -> None:
    recipe = load(find_recipe(name))
    found = Recipe.model_validate(smaller(recipe, quick).model_dump())
    assert (found.model, found.placement, found.rendering) == (recipe.model, recipe.placement, recipe.rendering)
    assert found.sampling and recipe.sampling and found.sampling.max_tokens == recipe.sampling.max_tokens
    assert not found.policies and found.sampling.stopping is None and found.synthesis is None
    settings = found.trained()["sft"].training
    assert settings and (settings.steps, settings.epochs) == (STEPS, None)
    place = found.placement.sampling
    assert found.problems.train
    problems = found.problems.train // (place.actors * place.concurrent_shards)
    assert (
        problems * found.sampling.samples * place.concurrent_shards >= place.max_num_seqs
    )  # an engine's slots are full


def test_a_recipe_without_training_or_sampling_is_measured_by_defaults() -> None:
    bare = Recipe.model_validate({"name": "bare", "problems": {"train": 4, "validation": 1, "test": 1}})
    found = Recipe.model_validate(smaller(bare, True).model_dump())
    assert found.trained()["sft"].training and found.sampling


def test_folders_that_are_not_there_are_made_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, rows = tmp_path / "new" / "runs", tmp_path / "results" / "rows.json"
    options = options_of(["--runs", str(runs), "--json", str(rows)])
    assert (options.runs, options.json) == (str(runs), rows)
    assert runs.is_dir() and rows.parent.is_dir()
    with tempfile.TemporaryDirectory(prefix="throughput-", dir=options.runs):
        pass
    assert options_of(["--json", "rows.json"]).json == Path("rows.json")
    (tmp_path / "file").touch()
    for name, told in ((str(tmp_path / "file" / "x"), "cannot be made"), ("s3://bucket/runs", "a folder on a disk")):
        with pytest.raises(SystemExit):
            options_of(["--runs", name])
        assert told in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_measures_the_demo(tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    command = [sys.executable, "-m", "benchmarks.throughput", "--quick", "--json", str(rows)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    found = {row["name"]: row for row in json.loads(rows.read_text())}
    assert all(row["value"] > 0 for row in found.values())
    assert found["sampling, an engine"]["peer"] == "raw-vllm" and found["sampling, an engine"]["ratio"] > 0
    assert 0 < found["training, MFU"]["value"] < 100
    assert {"verification, an actor", "training, a CPU worker", "engines' start"} <= found.keys()
