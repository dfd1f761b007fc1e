"""What an optimizer changes and how: weight decay, betas, and settings that fit no machine here."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from app.errors import UserError
from app.training.optimizer import Clipped, groups, kind_of
from tests.training.test_loop import MakeTrainer, close, trained


@pytest.mark.parametrize("placement", [{"backend": "torch"}, {"zero_stage": 3}])
def test_matrices_decay_and_norms_do_not(make_trainer: MakeTrainer, placement: dict[str, Any]) -> None:
    trainer = make_trainer("sft", weight_decay=0.1, precision="fp32", placement=placement)
    engine: Any = trainer.engine
    optimizer = engine.optimizer if placement.get("backend") else engine._engine.optimizer
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    found = groups(trainer.engine.module.parameters(), 0.1)
    sizes = [{len(getattr(p, "ds_shape", p.shape)) for p in group["params"]} for group in found]
    assert sizes == [{2}, {1}]


def test_backends_agree_with_weight_decay_and_other_betas(make_trainer: MakeTrainer, tmp_path: Any) -> None:
    how: dict[str, Any] = {"weight_decay": 0.5, "betas": (0.8, 0.9), "precision": "fp32", "learning_rate": 1e-2}
    places: list[dict[str, Any]] = [{"zero_stage": 2}, {"backend": "torch"}]
    plain, other = (
        trained(make_trainer("sft", root=tmp_path / str(n), placement=place, **how)) for n, place in enumerate(places)
    )
    undecayed = trained(make_trainer("sft", root=tmp_path / "undecayed", **{**how, "weight_decay": 0.0}))
    assert close(plain[1], other[1], 1e-5)
    assert not close(plain[1], undecayed[1], 1e-3)


def test_an_optimizer_of_8_bits_needs_a_gpu_and_its_package(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_trainer("sft").job
    small = job.settings.model_copy(update={"optimizer": "adamw_8bit"})

    def asked(**place: Any) -> Any:
        from dataclasses import replace

        return kind_of(replace(job, settings=small, placement=job.placement.model_copy(update=place)))

    with pytest.raises(UserError, match="adamw_8bit: needs a GPU"):
        asked()
    with pytest.raises(UserError, match="not with placement.training.offload"):
        asked(gpus=1, offload=True)
    with pytest.raises(UserError, match="needs the package bitsandbytes"):
        asked(gpus=1)
    fake: Any = ModuleType("bitsandbytes.optim")
    fake.AdamW8bit = type("AdamW8bit", (torch.optim.AdamW,), {})
    monkeypatch.setitem(sys.modules, "bitsandbytes", ModuleType("bitsandbytes"))
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", fake)
    monkeypatch.setattr("app.training.optimizer.find_spec", lambda name: name)
    kind, how = asked(gpus=1)
    assert kind is fake.AdamW8bit and how == {"lr": small.learning_rate, "betas": (0.9, 0.95)}
    clipped = type("Clipped8bit", (Clipped, kind), {})([torch.nn.Parameter(torch.ones(2))], clip=1.0, **how)
    clipped.param_groups[0]["params"][0].grad = torch.tensor([3.0, 4.0])
    clipped.step()
    assert clipped._global_grad_norm == 5.0
