"""The optimizer that settings ask for, for any backend."""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import torch

from app.errors import UserError
from app.training.job import Job


class Clipped:
    """Put before an optimizer's class. Clips and remembers the gradient norm; takes no step where that is not finite:
    DeepSpeed does so itself except for ZeRO 0 in float32.
    """

    param_groups: list[dict[str, Any]]

    def __init__(self, *args: Any, clip: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clip = clip
        self._global_grad_norm = 0.0  # the names DeepSpeed's engine looks for
        self.overflow = False

    def step(self, closure: Any = None) -> Any:
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        self._global_grad_norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.clip))
        self.overflow = not math.isfinite(self._global_grad_norm)
        return None if self.overflow else super().step(closure)  # type: ignore[misc]


class ClippedAdamW(Clipped, torch.optim.AdamW):
    """AdamW that clips."""


def groups(parameters: Iterable[torch.nn.Parameter | torch.Tensor], weight_decay: float) -> list[dict[str, Any]]:
    """Weights decay where they multiply; biases and the scales of norms do not. One group where nothing decays."""
    found = list(parameters)
    if not weight_decay:
        return [{"params": found, "weight_decay": 0.0}]
    matrices = [p for p in found if len(getattr(p, "ds_shape", p.shape)) > 1]  # ds_shape: of one cut up by ZeRO 3
    others = [p for p in found if len(getattr(p, "ds_shape", p.shape)) <= 1]
    both = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in both if group["params"]]


def kind_of(job: Job) -> tuple[Any, dict[str, Any]]:
    """The optimizer's class and its arguments beside the parameters: AdamW, fused, or with a state of 8 bits.

    Raises UserError where that is asked for and cannot be had.
    """
    rates: dict[str, Any] = {"lr": job.settings.learning_rate, "betas": job.settings.betas}
    if job.settings.optimizer == "adamw":
        return torch.optim.AdamW, {**rates, "fused": True}
    where = f"runs.{job.name}.optimizer: adamw_8bit"
    if not job.placement.gpus:
        raise UserError(f"{where}: needs a GPU (placement.training.gpus); on CPUs leave it out")
    if job.placement.offload:
        raise UserError(f"{where}: not with placement.training.offload, which has an optimizer of its own")
    if find_spec("bitsandbytes") is None:
        raise UserError(f"{where}: needs the package bitsandbytes on every training worker: pip install bitsandbytes")
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit, rates
