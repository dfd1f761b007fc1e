"""DeepSpeed as the Backend of training. The only file of training that knows its names but for the exchange of
sequence.py.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from app.errors import UserError
from app.training.backend import Facts
from app.training.forward import TokenLogProbs
from app.training.job import Job
from app.training.optimizer import Clipped, ClippedAdamW, groups, kind_of


def _plain(job: Job) -> bool:
    """Whether DeepSpeed leaves the optimizer alone: it neither clips nor knows the gradient norm then."""
    return job.placement.zero_stage == 0 and job.settings.precision == "fp32"


def _sums_in_float32(job: Job) -> bool:
    """Whether gradients of bf16 are to be summed in float32: at the other stages DeepSpeed does so or cannot."""
    return job.placement.zero_stage >= 2 and job.settings.precision == "bf16"


def deepspeed_config(job: Job) -> dict[str, Any]:
    """DeepSpeed's settings. The loop owns accumulation, loss scaling and the learning rate."""
    zero: dict[str, Any] = {"stage": job.placement.zero_stage}
    if job.placement.zero_stage:
        zero |= {"overlap_comm": job.placement.overlap_comm, "contiguous_gradients": True}
    if job.placement.zero_hpz_partition_size > 1:
        zero["zero_hpz_partition_size"] = job.placement.zero_hpz_partition_size
    if job.placement.offload:
        if not job.placement.zero_stage:
            raise UserError("placement.training.offload: needs placement.training.zero_stage 1, 2 or 3")
        zero["offload_optimizer"] = {"device": "cpu"}
        if job.placement.zero_stage == 3:
            zero["offload_param"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": 1,  # required; the true sizes vary and are the loop's business
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": 0.0 if _plain(job) else job.settings.max_grad_norm,
        "bf16": {"enabled": job.settings.precision == "bf16"},
        **({"data_types": {"grad_accum_dtype": "fp32"}} if _sums_in_float32(job) else {}),
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": None,
    }


def _deepspeed(device: torch.device) -> Any:
    """The package, told of the device before it looks for one itself."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    os.environ.setdefault("DS_ACCELERATOR", "cpu" if device.type == "cpu" else "cuda")
    try:
        import deepspeed
    except ImportError as error:
        raise UserError(
            f"DeepSpeed does not import on a training worker ({error}): install deepspeed there, or set "
            "placement.training.backend to torch, which does without"
        ) from error

    # DeepSpeed would compile a shared-memory all-reduce for CPUs at the first start (over a minute); gloo serves.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


@contextmanager
def loading(job: Job, device: torch.device) -> Iterator[None]:
    """While it is open, from_pretrained() gives each worker only its part of the weights under ZeRO 3."""
    _deepspeed(device)
    from transformers.integrations import HfDeepSpeedConfig

    sharded = HfDeepSpeedConfig(deepspeed_config(job)) if job.placement.zero_stage == 3 else None
    yield
    del sharded


class DeepSpeedBackend:
    """A DeepSpeed engine around the model; see app/training/backend.py for what each method is."""

    def __init__(self, module: TokenLogProbs, job: Job, device: torch.device) -> None:
        self._engine: Any
        self._engine, *_ = _deepspeed(device).initialize(
            model=module,
            model_parameters=groups((p for p in module.parameters() if p.requires_grad), job.settings.weight_decay),
            optimizer=_optimizer(job),
            config=deepspeed_config(job),
            dist_init_required=False,
        )
        self.module: TokenLogProbs = self._engine.module
        self.eval()

    def __call__(self, **tensors: torch.Tensor) -> torch.Tensor:
        logps: torch.Tensor = self._engine(**tensors)
        return logps

    def train(self) -> None:
        self._engine.train()

    def eval(self) -> None:
        self._engine.eval()

    def backward(self, loss: torch.Tensor) -> None:
        self._engine.backward(loss * dist.get_world_size(), scale_wrt_gas=False)  # it averages over workers

    def step(self, rate: float) -> float:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = rate
        self._engine.step()
        return float(self._engine.get_global_grad_norm() or 0.0)

    def layout(self) -> Facts:
        precision = "bf16" if self._engine.bfloat16_enabled() else "fp32"
        return {"world": dist.get_world_size(), "zero": self._engine.zero_optimization_stage(), "precision": precision}

    def alike(self, then: Facts) -> bool:
        return bool(then["zero"] == 0 or then["world"] == dist.get_world_size())

    def write(self, folder: Path) -> None:
        self._engine.save_checkpoint(str(folder), tag="state", save_latest=False, exclude_frozen_parameters=False)

    def join(self, source: Path, target: Path) -> None:
        shutil.rmtree(target, ignore_errors=True)
        command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
        command += ["--input_folder", str(source / "state"), "--output_folder", str(target / "state")]
        command += ["--num_extract_workers", "1", "--num_merge_workers", "1"]
        done = subprocess.run(command, capture_output=True, text=True)  # the converter is a script
        if done.returncode:
            raise RuntimeError(f"{source}: conversion to another number of workers failed:\n{done.stderr[-2000:]}")

    def read(self, folder: Path, joined: bool) -> None:
        self._engine._config.load_universal_checkpoint = joined
        try:
            where, _ = self._engine.load_checkpoint(str(folder), tag="state", load_lr_scheduler_states=False)
        finally:
            self._engine._config.load_universal_checkpoint = False
        if not where:
            raise FileNotFoundError(f"{folder}: DeepSpeed found nothing to load in it")

    def full_state(self) -> dict[str, torch.Tensor] | None:
        if self._engine.zero_optimization_partition_weights():
            whole = self._engine._zero3_consolidated_16bit_state_dict()
        else:
            whole = self.module.state_dict()
        if dist.get_rank() != 0:
            return None
        return {name.removeprefix("model."): value.detach().cpu() for name, value in whole.items()}

    def close(self) -> None:
        self._engine.destroy()


def _optimizer(job: Job) -> Any:
    """A function from parameters to an optimizer. DeepSpeed's own CPU Adam is compiled on first use: only for
    offload.
    """
    kind, how = kind_of(job)
    if job.placement.offload:
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        how.pop("fused")
        return lambda parameters: DeepSpeedCPUAdam(parameters, **how)
    if _plain(job):
        clipped = ClippedAdamW if kind is torch.optim.AdamW else type("Clipped8bit", (Clipped, kind), {})
        return lambda parameters: clipped(parameters, clip=job.settings.max_grad_norm, **how)
    return lambda parameters: kind(parameters, **how)
