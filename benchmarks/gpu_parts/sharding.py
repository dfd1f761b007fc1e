"""The ways to fit a model into memory: ZeRO, adapters, checkpointing, shared sequences, on one worker and on several.

Each trains a few steps of step DPO in float32, and must see the losses, norms and final weights of one worker that does
nothing special. So must runs whose shards are uneven, with a worker that is slow, or with one that was killed.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file

from app.training.dataset import load
from app.training.job import Job
from app.training.loop import Trainer
from app.training.metrics import read
from benchmarks.gpu_parts import models, trees
from benchmarks.gpu_parts.case import FAILED, Case, Setup, Skipped
from benchmarks.gpu_parts.ranks import spawn
from benchmarks.gpu_parts.training import BACKEND, job_of
from benchmarks.table import Row, row

STEPS, SAVED, KILLED = 6, 2, 3  # a checkpoint every SAVED steps; what is killed is killed in step KILLED, from 0
NEAR = 1e-3  # relative difference from one plain worker that the order of sums explains
ROUNDED = 0.2  # the same where the weights have 4 bits


class Slow(Trainer):
    """The last worker comes late to each step."""

    def step(self, step: int) -> dict[str, float]:
        if self.rank == self.world - 1:
            time.sleep(0.5)
        return super().step(step)


class Killed(Trainer):
    """The last worker dies in the middle of the run."""

    def step(self, step: int) -> dict[str, float]:
        if step == KILLED and self.rank == self.world - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(step)


@dataclass(frozen=True)
class Variant:
    """A way to train, and what it must agree with (None: one plain worker)."""

    name: str
    workers: int = 1
    placement: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    trainer: type[Trainer] = Trainer
    like: Variant | None = None
    near: float = NEAR

    def __hash__(self) -> int:
        return hash(self.name)


@dataclass(frozen=True)
class Seen:
    """What a run left behind."""

    numbers: torch.Tensor  # (2 * steps,) losses and gradient norms
    weights: torch.Tensor  # all of the exported model, one after the other

    def error(self, truth: Seen) -> float:
        pairs = ((self.numbers, truth.numbers), (self.weights, truth.weights))
        return max(float((ours - theirs).norm() / theirs.norm()) for ours, theirs in pairs)


PLAIN = Variant("one worker")
LORA = {"r": 4, "alpha": 8}
ADAPTERS = Variant("LoRA", settings={"lora": LORA})
ODD = {"batch": 7, "micro_batch": 2}  # no number of workers gets the same from each


QUICK = ("resume after a kill", "ZeRO 3", "LoRA, ZeRO 2")


def variants(workers: int, gpu: bool) -> list[Variant]:
    """Those for one worker, then those for several."""
    out = [
        Variant("resume after a kill", trainer=Killed),
        Variant("backend torch", placement={"backend": "torch"}),
        Variant("gradient checkpointing", settings={"gradient_checkpointing": True}),
        *(Variant(f"ZeRO {stage}", placement={"zero_stage": stage}) for stage in (1, 2, 3)),
        Variant("LoRA, ZeRO 2", placement={"zero_stage": 2}, settings={"lora": LORA}, like=ADAPTERS),
        Variant(
            "LoRA, ZeRO 3, checkpointing",
            placement={"zero_stage": 3},
            settings={"lora": LORA, "gradient_checkpointing": True},
            like=ADAPTERS,
        ),
        Variant("QLoRA", settings={"lora": {**LORA, "quantize": True}}, like=ADAPTERS, near=ROUNDED),
    ]
    if gpu:  # DeepSpeed compiles its CPU Adam for it
        out.append(Variant("ZeRO 3, offload", placement={"zero_stage": 3, "offload": True}))
    uneven = Variant("one worker, uneven", settings=ODD)
    several = [
        Variant("ZeRO 3", placement={"zero_stage": 3}),
        Variant("ZeRO 3, uneven shards", placement={"zero_stage": 3}, settings=ODD, like=uneven),
        Variant("ZeRO 3, one killed", placement={"zero_stage": 3}, trainer=Killed),
        Variant("sequence parallel", placement={"sequence_parallel": 2}),
        Variant("ZeRO 2, one slow", placement={"zero_stage": 2}, trainer=Slow),
        Variant("ZeRO 0"),
        Variant("ZeRO 3, hpZ", placement={"zero_stage": 3, "zero_hpz_partition_size": 2}),
        Variant("ZeRO 3, overlap", placement={"zero_stage": 3, "overlap_comm": True}),
        Variant("ZeRO 1", placement={"zero_stage": 1}),
        Variant("backend torch", placement={"backend": "torch"}),
        Variant("sequence parallel, ZeRO 3", placement={"zero_stage": 3, "sequence_parallel": 2}),
    ]
    named = (replace(one, name=f"{one.name}, {workers} workers", workers=workers) for one in several)
    return [*out, *named] if workers > 1 else out


def cases(setup: Setup) -> list[Case]:
    found = variants(setup.workers, setup.device == "cuda")
    if setup.quick:
        found = [one for one in found if one.name in QUICK]
    return [Case(f"sharding, {one.name}", partial(compare, setup, one), 240) for one in found]


def compare(setup: Setup, variant: Variant) -> list[Row]:
    """How far a variant is from what it must agree with."""
    if reason := impossible(setup, variant):
        raise Skipped(reason)
    truth = seen(setup, variant.like or PLAIN)
    begun = time.perf_counter()
    error = seen(setup, variant).error(truth)
    seconds = time.perf_counter() - begun
    note = "" if error <= variant.near else f"{FAILED}above {variant.near:g}"
    found = row(f"{variant.name}, {STEPS} steps", error, "relative error")
    return [replace(found, note=note or f"{seconds:.0f} s with start and export")]


def impossible(setup: Setup, variant: Variant) -> str:
    """Why a variant cannot run here; an empty text where it can."""
    lora = variant.settings.get("lora")
    if BACKEND == "torch" and {"zero_stage", "offload", "sequence_parallel"} & variant.placement.keys():
        return "DeepSpeed is not installed"
    if lora and find_spec("peft") is None:
        return "peft is not installed"
    if lora and lora.get("quantize") and setup.device != "cuda":
        return "QLoRA needs a GPU"
    if lora and lora.get("quantize") and find_spec("bitsandbytes") is None:
        return "bitsandbytes is not installed"
    if setup.device == "cuda" and variant.workers > setup.gpus:
        return f"{variant.workers} workers need as many GPUs; there are {setup.gpus}"
    size = max(variant.placement.get(name, 1) for name in ("sequence_parallel", "zero_hpz_partition_size"))
    if variant.workers % size:
        return f"{variant.workers} workers do not make whole teams of {size}"
    return ""


@lru_cache
def seen(setup: Setup, variant: Variant) -> Seen:
    """Train, in a folder of its own, from a killed run on where it is one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model").symlink_to(start(setup), target_is_directory=True)
        placement = {"workers": variant.workers, **variant.placement}
        job = job_of(folder, setup, data(setup), placement, **(common() | variant.settings))
        if variant.trainer is Killed:
            _killed(setup, variant, job)
        trainer = Trainer if variant.trainer is Killed else variant.trainer
        spawn(variant.workers, setup.device, train, job, trainer)
        metrics = read(job.metrics)
        if len(metrics) != STEPS:
            raise RuntimeError(f"{len(metrics)} of {STEPS} steps are in the metrics")
        numbers = [step[key] for step in metrics for key in ("loss", "grad_norm")]
        whole = load_file(job.output.local("model") / "model.safetensors")
        weights = torch.cat([whole[key].double().flatten() for key in sorted(whole)])
    return Seen(torch.tensor(numbers, dtype=torch.float64), weights)


def _killed(setup: Setup, variant: Variant, job: Job) -> None:
    """A first run, which must end, and leave a checkpoint and no model."""
    try:
        spawn(variant.workers, setup.device, train, job, Killed)
    except Exception as error:
        if not job.output.local("checkpoints").is_dir():
            raise RuntimeError(f"the first run left no checkpoint: {error}") from error
    else:
        raise RuntimeError("a run went on to its end though one of its workers was killed")


def train(device: torch.device, job: Job, trainer: type[Trainer]) -> None:
    """On every rank: the whole run."""
    dist.barrier()
    trainer(job, load(job.dataset, job.settings.max_length, job.settings), device).train()


@lru_cache
def start(setup: Setup) -> Path:
    """The start weights. They are drawn on the CPU: this process must not touch the GPU."""
    folder = Path(tempfile.mkdtemp())
    return models.save(folder, "small-llama" if setup.device == "cuda" else "tiny-llama", "cpu", spread=True)


@lru_cache
def data(setup: Setup) -> Any:
    """Four step pairs for each of twelve problems."""
    gpu = setup.device == "cuda"
    words = models.vocabulary_of("small-llama" if gpu else "tiny-llama")
    sizes = trees.LARGE if gpu else trees.TINY
    return [pair for number in range(12) for pair in trees.pairs(8, 2, sizes, words, f"p{number}")]


def common() -> dict[str, Any]:
    """Settings of every variant."""
    how: dict[str, Any] = {"steps": STEPS, "batch": 8, "micro_batch": 4, "checkpoint_steps": SAVED}
    return how | {"precision": "fp32", "learning_rate": 1e-3, "max_length": 2048, "group": "problem"}
