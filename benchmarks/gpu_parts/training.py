"""A training job of the product in this process: no Ray, one rank or one of several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from app.records import Example, PreferencePair
from app.store import Output
from app.training.job import Job
from app.training.settings import PreferenceSettings, TrainPlacement, TrainSettings
from benchmarks.gpu_parts.case import Setup

BACKEND = "deepspeed" if find_spec("deepspeed") else "torch"


def one_rank(device: str) -> torch.device:
    """A process group of this process alone, for as long as it lives, and its device."""
    if dist.is_initialized():
        return torch.device("cuda", 0) if device == "cuda" else torch.device("cpu")
    return joined(device, 0, 1, dist.HashStore())


def joined(device: str, rank: int, count: int, store: Any) -> torch.device:
    """Enter a process group; returns this rank's device. NCCL and a GPU each, or gloo."""
    os.environ |= {"LOCAL_RANK": str(rank), "RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}  # not used, but DeepSpeed wants them
    gpu = device == "cuda"
    if gpu:
        torch.cuda.set_device(rank)
    dist.init_process_group("cuda:nccl,cpu:gloo" if gpu else "gloo", store=store, rank=rank, world_size=count)
    return torch.device("cuda", rank) if gpu else torch.device("cpu")


def job_of(
    folder: Path,
    setup: Setup,
    rows: Sequence[Example] | Sequence[PreferencePair] | None = None,
    placement: dict[str, Any] | None = None,
    **settings: Any,
) -> Job:
    """A run of the model in `folder`/model on `rows`, whose output is below `folder`."""
    kind: Any = Example if rows and isinstance(rows[0], Example) else PreferencePair
    single = kind is Example
    data = Output(str(folder), "datasets/bench", "k")
    if rows:
        data.write_shard(0, kind.table(rows))
        data.finish({})
    output = Output(str(folder), "training/bench", "k")
    output.local().mkdir(parents=True, exist_ok=True)
    where = {"gpus": 1 if setup.device == "cuda" else 0, "backend": BACKEND, **(placement or {})}
    body = {"steps": 1, "batch": 8, "micro_batch": 8, "max_length": 4096, **settings}
    return Job(
        method="sft" if single else "step_dpo",
        dataset=data,
        output=output,
        policy=str(folder / "model"),
        fingerprint="bench",
        revision=None,
        trust_remote_code=False,
        settings=(TrainSettings if single else PreferenceSettings).model_validate(body),
        placement=TrainPlacement.model_validate(where),
        seed=0,
    )
