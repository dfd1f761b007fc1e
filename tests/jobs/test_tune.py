"""`python -m jobs.tune`: what it tries, what it keeps, and the placement that a recipe then names."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.recipe import Recipe, load
from app.sampling.estimate import Pilot
from app.training.probe import Probe, probe
from jobs import tune
from tests.sampling.test_estimate_job import RECIPE, with_problems
from tests.training.conftest import *  # noqa: F403 - its fixtures
from tests.training.test_loop import MakeTrainer


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "guess.yaml"
    file.write_text(yaml.safe_dump(RECIPE | {"placement": {"sampling": {"max_num_seqs": 8, "cpus": 2}}}))
    with_problems(file, tmp_path / "runs")
    return file


def tuned(recipe: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    """With engines of which one with 32 requests at once and two threads is the fastest, and 64 do not start."""

    def sample(there: Recipe, *_: Any) -> Pilot:
        place = there.placement.sampling
        if place.max_num_seqs > 32:
            raise RuntimeError("no room for so many")
        return Pilot([1000] * 2, 8, 4, 100 / (place.max_num_seqs * place.threads))

    monkeypatch.setattr(tune, "sample", sample)
    folder = recipe.parent
    return tune.main([str(recipe), "--runs", str(folder / "runs"), "--out", str(folder / "tuned.yaml"), *more])


def test_the_fastest_placement_is_written_and_can_be_named(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tuned(recipe, monkeypatch) == 0
    out, written = capsys.readouterr().out, recipe.parent / "tuned.yaml"
    assert "no room for so many" in out and "8.00 times as fast as the recipe's own" in out
    assert "EUR" in out
    named = load(str(recipe), [f"placement={written}", "placement.sampling.actors=3"])
    assert (named.placement.sampling.max_num_seqs, named.placement.sampling.threads) == (32, 2)
    assert (named.placement.sampling.actors, named.placement.sampling.cpus) == (3, 2)
    body = yaml.safe_load(recipe.read_text()) | {"placement": str(written)}
    recipe.write_text(yaml.safe_dump(body))
    assert load(str(recipe)).placement.sampling.max_num_seqs == 32


def test_without_time_the_recipes_own_stays(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tuned(recipe, monkeypatch, "--minutes", "0.000001") == 0
    assert "the recipe's own is the best of these" in capsys.readouterr().out
    assert load(str(recipe), [f"placement={recipe.parent / 'tuned.yaml'}"]).placement.sampling.max_num_seqs == 8


def test_what_cannot_be_tuned_is_said(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tuned(recipe, monkeypatch, "--minutes", "0") == 2
    assert tuned(recipe, monkeypatch, "--set", "sampling=null") == 2
    said = capsys.readouterr().err
    assert "--minutes: give a number above 0" in said and "nothing to tune" in said


def test_micro_batches_stay_within_the_batch() -> None:
    from app.training.settings import TrainSettings

    own = TrainSettings(steps=1, batch=8, micro_batch=8)
    assert [name for name, _ in tune.training_changes(own)] == ["micro_batch: 4", "gradient_checkpointing: True"]


@pytest.mark.slow
def test_a_few_steps_of_a_training_are_timed_and_nothing_is_kept(make_trainer: MakeTrainer) -> None:
    job = make_trainer("dpo").job
    before = set(job.output.local().rglob("*"))
    found = probe(job, 300)
    assert isinstance(found, Probe) and found.seconds > 0 and not found.failed
    assert set(job.output.local().rglob("*")) == before
    broken = dataclasses.replace(job, policy=str(job.output.local("no_such_model")))
    with pytest.raises(Exception, match="no_such_model"):
        probe(broken, 300)
