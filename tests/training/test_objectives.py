"""The less usual objectives through the real loop: listwise, weighted by advantage, filtered by it."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from app.training.loop import Trainer
from app.training.metrics import read
from tests.training.conftest import example, pair
from tests.training.test_loop import ROUNDING, close, trained

MakeTrainer = Callable[..., Trainer]


def lists(count: int, rejected: int) -> list[Any]:
    """`rejected` pairs a prompt with the same chosen branch."""
    rng, rows = random.Random(0), []
    for number in range(count):
        first = pair(number, rng)
        for k in range(rejected):
            other = pair(number, rng)
            rows.append(dataclasses.replace(first, id=f"{number}-{k}", rejected_token_ids=other.rejected_token_ids))
    return rows


def test_listwise_learns_and_does_not_depend_on_micro_batches(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    rows = lists(8, 3)
    how: dict[str, Any] = {"rows": rows, "loss": "listwise", "epochs": 5, "batch": 4, "warmup": 0}
    small = make_trainer("step_dpo", root=tmp_path / "1", micro_batch=1, **how)
    losses, weights = trained(small)
    assert losses[0] == pytest.approx(math.log(1 + 3), abs=1e-5)
    assert losses[-1] < 0.5 * losses[0]
    assert small.order.count == 8
    assert read(small.job.metrics)[-1]["accuracy"] > 0.9
    assert close(weights, trained(make_trainer("step_dpo", root=tmp_path / "4", micro_batch=4, **how))[1], ROUNDING)


def test_listwise_with_one_rejected_branch_trains_as_dpo(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    listed = trained(make_trainer("dpo", root=tmp_path / "a", loss="listwise"))
    paired = trained(make_trainer("dpo", root=tmp_path / "b"))
    assert listed[0] == pytest.approx(paired[0], abs=1e-5)
    assert close(listed[1], paired[1], ROUNDING)


def test_sft_by_advantage_is_a_weighted_mean_over_the_steps_tokens(make_trainer: MakeTrainer) -> None:
    """Steps as examples: the prompt holds the steps before, the weight is exp(A / beta)."""
    rng = random.Random(0)
    advantages = [0.5, -0.25, 0.0, 1.0]
    rows = [example(i, rng, weight=math.exp(a / 0.5)) for i, a in enumerate(advantages)]
    trainer = make_trainer("sft", rows=rows, batch=4)
    model = trainer.engine.module.model
    model.set_attn_implementation("sdpa")
    total, tokens = 0.0, 0.0
    for row in rows:
        ids = torch.tensor([row.prompt_token_ids + row.completion_token_ids])
        logps = torch.log_softmax(model(input_ids=ids).logits[0, :-1], -1).gather(1, ids[0, 1:, None])[:, 0]
        total -= row.weight * float(logps[len(row.prompt_token_ids) - 1 :].sum().detach())
        tokens += row.weight * len(row.completion_token_ids)
    assert trainer.step(0)["loss"] == pytest.approx(total / tokens, abs=1e-5)
