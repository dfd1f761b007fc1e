"""Evaluations beside a training: which model comes out, whatever the speed, the losses and the restarts."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.errors import UserError
from app.policy import base_policy, trained_policy
from app.progress import Progress
from app.stage import StageContext
from app.store import Output
from app.training import checkpoint, launch
from app.training.launch import make_job
from app.training.loop import Trainer
from app.training.metrics import read
from app.training.trackers import Trackers
from app.training.trials import IDLE, Lost, Trials
from app.training.worker import train_worker
from tests.training.test_loop import Killed, close, kill_at, weights

MakeContext = Callable[..., StageContext]
MakeTrainer = Callable[..., Trainer]
NO_BOARDS = SimpleNamespace(add=lambda *_: None)
SCRIPTED = "tests.training.evaluators"
HOW: dict[str, Any] = {"steps": 20, "evaluate_every": 2, "patience": 2, "evaluator": SCRIPTED}


class Fake:
    """An evaluator in this process: accuracies by step; LOST in their place is a lost actor."""

    def __init__(self, accuracies: dict[int, Any], slow: int = 0) -> None:
        self.accuracies, self.slow, self.waits = accuracies, slow, 0
        self.asked: list[int] = []
        self.closed = 0

    def ask(self, path: str, fingerprint: str) -> None:
        self.asked.append(int(Path(path).name.removeprefix("step-")))
        self.waits = self.slow

    def answer(self, wait: bool) -> dict[str, Any] | None:
        if self.waits and not wait:
            self.waits -= 1
            return None
        value = self.accuracies[self.asked[-1]]
        if isinstance(value, list):
            value = value.pop(0)
        if value == "lost":
            raise Lost("its node went away")
        return {"accuracy": value, "judged": 10.0, "answer_tokens": 5.0}

    def close(self) -> None:
        self.closed += 1


def trials_of(make_context: MakeContext, fake: Fake, patience: int | None = 2, steps: int = 20) -> Trials:
    context = make_context("sft", steps=steps, evaluate_every=2, patience=patience)
    job = make_job(context)
    job.output.local().mkdir(parents=True, exist_ok=True)
    return Trials(job, context.progress, steps, lambda: fake, Trackers(job, 0))


def offer(trials: Trials, *steps: int) -> None:
    for step in steps:
        trials.candidates.path(step).mkdir(parents=True)


def test_candidates_are_evaluated_one_by_one_in_order(make_context: MakeContext) -> None:
    fake = Fake({2: 0.5, 4: 0.6, 6: 0.7}, slow=2)
    trials = trials_of(make_context, fake)
    assert not trials.look() and fake.asked == []
    offer(trials, 4, 2)
    assert [trials.look() for _ in range(3)] == [True] * 3 and fake.asked == [2]
    offer(trials, 6)
    trials.finish()
    assert fake.asked == [2, 4, 6]
    assert [row["accuracy"] for row in trials.candidates.rows()] == [0.5, 0.6, 0.7]


def test_nothing_more_is_asked_once_the_run_is_decided(make_context: MakeContext) -> None:
    fake = Fake({2: 0.5, 4: 0.4, 6: 0.3})
    trials = trials_of(make_context, fake)
    offer(trials, 2, 4, 6, 8, 10)
    trials.finish()
    assert fake.asked == [2, 4, 6] and trials.over() and trials.candidates.stop.exists()


def test_a_lost_evaluator_is_replaced_and_asked_again(make_context: MakeContext) -> None:
    fake = Fake({2: ["lost", "lost", 0.5]})
    trials = trials_of(make_context, fake)
    offer(trials, 2)
    trials.finish()
    assert fake.asked == [2, 2, 2] and fake.closed == 2
    assert trials.candidates.rows() == [{"step": 2, "accuracy": 0.5, "judged": 10.0, "answer_tokens": 5.0}]


def test_an_evaluator_that_is_lost_each_time_is_an_error(make_context: MakeContext) -> None:
    trials = trials_of(make_context, Fake({2: "lost"}))
    offer(trials, 2)
    with pytest.raises(UserError, match="training/sft: evaluating step 2 failed 3 times: its node went away"):
        trials.finish()


def test_an_idle_evaluator_gives_its_room_back(make_context: MakeContext, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("app.training.trials.time.monotonic", lambda: now[0])
    fake = Fake({2: 0.5, 4: 0.6})
    trials = trials_of(make_context, fake)
    offer(trials, 2)
    trials.finish()
    now[0] = IDLE - 1
    trials.look()
    assert fake.closed == 0
    now[0] = IDLE + 1
    trials.look()
    assert fake.closed == 1
    offer(trials, 4)
    trials.finish()
    assert fake.asked == [2, 4]


@pytest.mark.parametrize(
    ("method", "before", "step"), [("save", True, 4), ("save", False, 4), ("offer", True, 6), ("offer", False, 2)]
)
def test_the_same_model_wins_whichever_instant_a_kill_came_at(
    one_rank: None, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch, method: str, before: bool, step: int
) -> None:
    """A worker that has a checkpoint after each step, the last one too, because notices keep coming in. It is killed
    just before or after it saves or offers a step; both it and the driver then start again.
    """
    job = make_job(make_context("sft", steps=6, evaluate_every=2))
    job.output.local().mkdir(parents=True, exist_ok=True)
    notices = itertools.count(1.0)
    config = {"job": job, "deadline": lambda: next(notices), "feed": None}
    fake, inner = Fake({2: 0.25, 4: 0.5, 6: 0.25}), getattr(Trainer, method)

    def driver() -> Trials:
        return Trials(job, Progress("sft", out=io.StringIO()), 6, lambda: fake, NO_BOARDS)

    def killed(trainer: Trainer, done: int, **more: Any) -> Any:
        if before and done == step:
            raise Killed
        out = inner(trainer, done, **more)
        if done == step:
            raise Killed
        return out

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, method, killed)
        train_worker(config)
    driver().finish()
    train_worker(config)
    driver().finish()
    assert fake.asked == [2, 4, 6]
    best, over = job.candidates.chosen()
    assert best is not None and (best["step"], over) == (6, None)
    assert job.candidates.path(6).is_dir()


# -- the worker's side ------------------------------------------------------------------------------------------------


def test_the_worker_offers_models_and_ends_where_it_is_told(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("sft", steps=9, evaluate_every=2, patience=1)
    inner = trainer.step

    def step(index: int) -> dict[str, float]:
        if index == 4:
            trainer.job.candidates.stop.touch()  # seen before the next step
        return inner(index)

    trainer.step = step  # type: ignore[method-assign]
    trainer.train()
    assert [row["step"] for row in read(trainer.job.metrics)] == [1, 2, 3, 4, 5]
    assert sorted(p.name for p in trainer.job.candidates.folder.iterdir()) == ["step-00000002", "step-00000004"]
    assert not trainer.job.output.local("model").exists()
    told = (trainer.job.candidates.path(4) / "README.md").read_text()
    assert "key `k`: 4 steps, seed 0" in told


def test_the_last_step_is_offered_too(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("sft", steps=5, evaluate_every=4)
    trainer.train()
    assert sorted(p.name for p in trainer.job.candidates.folder.iterdir()) == ["step-00000004", "step-00000005"]


def test_a_notice_makes_a_checkpoint_at_the_next_step(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """Killed four steps later, the run goes on from there and ends as if nothing had been."""
    how: dict[str, Any] = {"steps": 12, "checkpoint_steps": 100}
    whole = make_trainer("sft", root=tmp_path / "whole", **how)
    whole.train()
    cut = make_trainer("sft", root=tmp_path / "cut", **how)
    asked = iter([None] * 5 + [1e12] * 10)
    cut.notice.ask = lambda: next(asked)
    kill_at(cut, 10)
    folder = cut.job.output.local("checkpoints")
    assert [p.name for p in checkpoint.complete(folder)] == ["step-00000006"]
    again = make_trainer("sft", root=tmp_path / "cut", **how)
    again.train()
    rows = [[row["loss"] for row in read(t.job.metrics)] for t in (whole, again)]
    assert rows[0] == rows[1]
    assert close(weights(whole.job.output.local("model")), weights(again.job.output.local("model")), 0)
    [restart] = read(again.job.metrics.with_name("restarts.jsonl"))
    assert (restart["step"], restart["redone_steps"]) == (6, 4)


# -- through Ray ------------------------------------------------------------------------------------------------------


def test_early_stopping_keeps_the_best(ray_local: str, make_context: MakeContext, capsys: Any, tmp_path: Path) -> None:
    """Step 4 is the best until two evaluations brought nothing better; how far training ran on does not matter."""
    whole = make_context("sft", root=tmp_path / "whole", steps=4, schedule="constant", warmup=0)
    launch.run(whole)
    how = {**HOW, "schedule": "constant", "warmup": 0}
    context = make_context("sft", root=tmp_path / "early", placement={"trackers": ["tensorboard"]}, **how)
    context.output.local().mkdir(parents=True)
    (context.output.local() / "die").touch()  # the first evaluator's process ends under it
    launch.run(context)
    assert context.output.read()["step"].to_pylist() == list(range(1, 9))
    rows = context.output.read(kind="evaluations").to_pylist()
    assert [(row["step"], row["accuracy"]) for row in rows] == [(2, 0.2), (4, 0.6), (6, 0.5), (8, 0.4)]
    counts = context.output.counts()
    assert (counts["model_step"], counts["validation_accuracy"], counts["steps"]) == (4, 0.6, 8)
    assert close(weights(context.output.local("model")), weights(whole.output.local("model")), 0)
    asked = read(context.output.local() / "asked.jsonl")
    assert [row["fingerprint"] for row in asked] == [f"k@{step}" for step in (2, 4, 6, 8)]
    assert len({row["pid"] for row in asked}) == 1  # one engine served them all
    told = capsys.readouterr().err
    assert "step 4: 60.0% of 200 validation problems right, greedily" in told
    assert "the model is that of step 4: 60.0% on validation problems" in told
    assert not context.output.local("candidates").exists()
    assert list(context.output.local("tensorboard").iterdir())


GATE = {"steps": 4, "gate": True, "schedule": "constant", "warmup": 0, "evaluator": HOW["evaluator"]}


def test_a_gate_keeps_a_start_that_no_candidate_beats(
    ray_local: str, make_context: MakeContext, capsys: Any, tmp_path: Path
) -> None:
    """The stage's model is its start, by name; without evaluate_every the only other candidate is the last step."""
    context = make_context("sft", root=tmp_path, **GATE)
    launch.run(context)
    rows = context.output.read(kind="evaluations").to_pylist()
    assert [row["step"] for row in rows] == [0, 4]
    assert context.output.counts()["kept_start"] == 1 and context.output.counts()["model_step"] == 0
    start = context.recipe.model.path
    kept = trained_policy(context.output)
    assert (kept.path, kept.fingerprint) == (start, base_policy(context.recipe.model).fingerprint)
    assert not context.output.local("model").exists() and not context.output.local("candidates").exists()
    assert "the model is the one it started from: no candidate is better" in capsys.readouterr().err
    launch.run(context)  # done is done

    stage = replace(context.stage, name="training/next", options=context.stage.options | {"start": None})
    after = Output(str(tmp_path), "training/next", "k")
    passed = StageContext(stage, context.recipe, {"start": context.output}, after, Progress("training/next"))
    launch.run(passed)  # the next round, whose data set was left out
    assert trained_policy(after) == kept and after.counts() == {"kept_start": 1.0}


@pytest.mark.slow
def test_a_gate_keeps_the_best_candidate(ray_local: str, make_context: MakeContext, tmp_path: Path) -> None:
    whole = make_context("sft", root=tmp_path / "whole", steps=4, schedule="constant", warmup=0)
    launch.run(whole)
    context = make_context("sft", root=tmp_path / "gate", **(GATE | {"steps": 8, "evaluate_every": 2}))
    context.output.local().mkdir(parents=True)
    (context.output.local() / "weak").touch()
    launch.run(context)
    rows = context.output.read(kind="evaluations").to_pylist()
    assert [(row["step"], row["accuracy"]) for row in rows] == [(0, 0.1), (2, 0.2), (4, 0.6), (6, 0.5), (8, 0.4)]
    assert context.output.counts()["model_step"] == 4 and "kept_start" not in context.output.counts()
    assert close(weights(context.output.local("model")), weights(whole.output.local("model")), 0)


@pytest.mark.slow
def test_early_stopping_at_an_address(
    ray_local: str, make_context: MakeContext, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers, driver and evaluator share the address alone; what is left there is what a disk would hold."""
    monkeypatch.setenv("EIGHTFOLD_CACHE", str(tmp_path / "cache"))
    context = make_context("sft", root=f"file://{tmp_path}/far", placement={"trackers": ["tensorboard"]}, **HOW)
    launch.run(context)
    assert context.output.read()["step"].to_pylist() == list(range(1, 9))
    assert context.output.counts()["model_step"] == 4
    far = tmp_path / "far" / "training" / "sft" / "k"
    assert [row["step"] for row in read(far / "metrics.jsonl")] == list(range(1, 9))
    left = {"asked.jsonl", "evaluations.jsonl", "metrics.jsonl", "model", "tensorboard"}
    assert {path.name for path in far.iterdir()} == left | {"evaluations-00000.parquet", "part-00000.parquet"}
    assert list((far / "tensorboard").iterdir())
    told = capsys.readouterr().err
    assert "training/sft: step 2: loss" in told and "step 4: 60.0% of 200 validation problems right" in told
    launch.run(context)  # done is done


@pytest.mark.slow
def test_no_room_for_an_engine_beside_the_workers_delays_evaluations_only(
    ray_local: str, make_context: MakeContext
) -> None:
    """Both CPUs train; the evaluator waits in the queue until they are done."""
    context = make_context("sft", **HOW, placement={"workers": 2})
    launch.run(context)
    assert context.output.counts()["model_step"] == 4
    assert context.output.read()["step"].to_pylist() == list(range(1, 9))


@pytest.mark.slow
def test_an_evaluators_own_mistake_ends_the_run(ray_local: str, make_context: MakeContext) -> None:
    context = make_context("sft", **HOW)
    context.output.local().mkdir(parents=True)
    (context.output.local() / "refuse").touch()
    with pytest.raises(UserError, match="no validation problems there"):
        launch.run(context)
    assert not context.output.done_shards()


@pytest.mark.slow
def test_a_run_that_was_stopped_after_its_evaluations_trains_no_more(
    ray_local: str, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(launch, "finish", killed)
        with pytest.raises(Killed):
            launch.run(make_context("sft", **HOW))
    monkeypatch.setattr(launch, "fit", lambda *_: pytest.fail("trained again"))
    context = make_context("sft", **HOW)
    launch.run(context)
    assert context.output.counts()["model_step"] == 4
