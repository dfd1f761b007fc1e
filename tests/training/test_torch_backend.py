"""Training by PyTorch alone: what DeepSpeed would learn, whole runs, stopped runs and runs of several workers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from app.errors import UserError
from app.training.loop import Trainer
from app.training.metrics import read
from app.training.settings import TrainPlacement
from tests.training.conftest import context_of
from tests.training.ranks import spawn
from tests.training.test_loop import ROUNDING, close, trained

TORCH = {"backend": "torch"}
MakeTrainer = Callable[..., Trainer]


@pytest.mark.parametrize("how", [{}, {"lora": {"r": 4, "alpha": 8}}, {"gradient_checkpointing": True}])
def test_it_learns_what_deepspeed_does(make_trainer: MakeTrainer, tmp_path: Path, how: dict[str, Any]) -> None:
    settings = {"epochs": 2, "max_grad_norm": 0.5, "weight_decay": 0.1, **how}
    losses, weights = trained(make_trainer("step_dpo", root=tmp_path / "a", placement=TORCH, **settings))
    wanted, theirs = trained(make_trainer("step_dpo", root=tmp_path / "b", **settings))
    assert losses == pytest.approx(wanted, abs=1e-5)
    assert close(weights, theirs, ROUNDING)


def test_in_bf16_small_steps_are_not_lost(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """A change too small for bf16 adds up in the float32 copy, as it does with DeepSpeed."""
    settings = {"epochs": 8, "precision": "bf16", "learning_rate": 2e-4, "schedule": "constant", "warmup": 0}
    losses, weights = trained(make_trainer("sft", root=tmp_path / "a", placement=TORCH, **settings))
    wanted, theirs = trained(make_trainer("sft", root=tmp_path / "b", **settings))
    assert losses == pytest.approx(wanted, rel=0.01)
    assert all(weights[name].dtype == torch.bfloat16 for name in weights)
    assert close(weights, theirs, 0.01)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_stopped_run_goes_on_as_if_nothing_had_been(
    make_trainer: MakeTrainer, tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"epochs": 2, "checkpoint_steps": 2, "precision": precision, "placement": TORCH}
    wanted = trained(make_trainer("sft", root=tmp_path / "whole", **settings))
    step = Trainer.step

    def stop(self: Trainer, number: int) -> dict[str, float]:
        if number == 3:
            raise KeyboardInterrupt
        return step(self, number)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", stop)
        make_trainer("sft", root=tmp_path / "stopped", **settings).train()
    losses, weights = trained(make_trainer("sft", root=tmp_path / "stopped", **settings))
    assert losses == wanted[0]
    assert close(weights, wanted[1], 0.0)


def test_a_checkpoint_of_the_other_backend_is_refused(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    one = make_trainer("sft", placement=TORCH)
    one.save(1)
    with pytest.raises(UserError, match=r"written with backend torch, now it is deepspeed; set it back"):
        make_trainer("sft").train()


def on_a_rank(model: Path, root: Path) -> None:
    from app.training.dataset import load
    from app.training.launch import make_job

    job = make_job(context_of(model, "sft", root, epochs=1, micro_batch=3, placement={"workers": 2, **TORCH}))
    job.output.local().mkdir(parents=True, exist_ok=True)
    Trainer(job, load(job.dataset, 64, job.settings), torch.device("cpu")).train()


def test_two_workers_learn_what_one_does(make_trainer: MakeTrainer, tiny_model: Path, tmp_path: Path) -> None:
    spawn(2, on_a_rank, tmp_path / "store", tiny_model, tmp_path / "two")
    one = make_trainer("sft", root=tmp_path / "one", epochs=1, micro_batch=3, placement=TORCH)
    losses, _ = trained(one)
    rows = read(tmp_path / "two" / one.job.output.local().relative_to(tmp_path / "one") / "metrics.jsonl")
    assert [row["loss"] for row in rows] == pytest.approx(losses, abs=1e-5)


def test_what_it_cannot_do_is_said_at_once() -> None:
    for what in ({"zero_stage": 1}, {"zero_stage": 3, "offload": True}, {"workers": 2, "sequence_parallel": 2}):
        with pytest.raises(ValidationError, match="backend: torch has no zero_stage, offload and sequence_parallel"):
            TrainPlacement.model_validate({**TORCH, **what})


def test_without_deepspeed_the_error_says_what_to_do(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(UserError, match=r"DeepSpeed does not import .* set placement\.training\.backend to torch"):
        make_trainer("sft")
