"""How fast training is: pairs and useful tokens a second, MFU and peak memory, against peers in the same run.

Peers: `packing`, the same code with every sequence a tree of its own; `padded loop` (padded.py); `trl` where it is
installed. All have the same rows, batches, micro-batches and no gradient checkpointing; a rate is that of the median
step. References are given beforehand, in no one's time. Useful tokens are those of a pair's prompt, once, and both
branches: what padding and repeated prompts add is work, but not useful.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.records import Example, PreferencePair
from app.training.dataset import Dataset, load
from app.training.job import Job
from app.training.loop import Trainer
from app.training.settings import LoraSettings
from app.training.trees import Rows
from benchmarks import trl_peer
from benchmarks.gpu_parts import models
from benchmarks.gpu_parts.case import Case, Setup
from benchmarks.gpu_parts.lengths import LENGTHS, Maker
from benchmarks.gpu_parts.padded import PaddedLoop
from benchmarks.gpu_parts.part import told
from benchmarks.gpu_parts.training import job_of, one_rank
from benchmarks.table import Row, row

WARM, TIMED = 2, 4  # steps
BUDGET = 8192  # useful tokens of a micro-batch on a GPU
GOALS = {"sft": 35.0, "dpo": 30.0, "step_dpo": 30.0}  # MFU in percent, of 1.5B on one H100


@dataclass(frozen=True)
class Task:
    """What is trained."""

    shape: str
    lengths: str
    method: str  # sft, dpo, step_dpo
    problem: int = 1  # pairs that share a problem and stand together in a step
    lora: bool = False

    @property
    def name(self) -> str:
        kind = {"sft": "SFT", "dpo": "DPO", "step_dpo": "step DPO"}[self.method]
        shared = f", {self.problem} pairs a problem" if self.problem > 1 else ""
        return f"{kind}, {self.lengths} lengths{shared}, {self.shape}{' LoRA' if self.lora else ''}"


def tasks(setup: Setup) -> list[Task]:
    """The most telling first."""
    if setup.device == "cpu":
        found = [Task("tiny-llama", "tiny", "step_dpo", 4), Task("tiny-qwen", "tiny", "sft")]
        return found if setup.quick else [*found, Task("tiny-llama", "tiny", "dpo")]
    main = [
        Task("1.5B", "GSM8K", "step_dpo", 4),
        Task("1.5B", "GSM8K", "sft"),
        Task("1.5B", "GSM8K", "step_dpo"),
        Task("1.5B", "MATH", "step_dpo", 4),
        Task("1.5B", "GSM8K", "dpo"),
        Task("1.5B", "MATH", "sft"),
        Task("7B", "GSM8K", "step_dpo", 4, lora=True),
        Task("0.5B", "GSM8K", "step_dpo", 4),
        Task("0.5B", "GSM8K", "sft"),
    ]
    return main[:2] if setup.quick else main


def cases(setup: Setup) -> list[Case]:
    return [Case(f"rates, {task.name}", partial(measure, setup, task), 240) for task in tasks(setup)]


@lru_cache(maxsize=1)
def folder_of(shape: str, device: str) -> str:
    """The model's folder, for as long as the process lives."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    return str(models.save(Path(tempfile.mkdtemp()), shape, device, dtype=dtype))


@dataclass(frozen=True)
class Work:
    """A task with its rows and sizes."""

    task: Task
    rows: Sequence[Example] | Sequence[PreferencePair]
    batch: int
    micro_batch: int
    lora: LoraSettings | None


def work_of(task: Task, setup: Setup) -> Work:
    """Micro-batches of about BUDGET tokens, two to a step."""
    maker = Maker(LENGTHS[task.lengths], models.vocabulary_of(task.shape))
    tokens = statistics.mean(len(r.prompt_token_ids) + 2 * len(r.chosen_token_ids) for r in maker.pairs(50, 1, True))
    micro = max(task.problem, round(BUDGET / tokens)) if setup.device == "cuda" else 4
    micro = -(-micro // task.problem) * task.problem
    count = 2 * micro * (WARM + TIMED)
    rows = (
        maker.examples(count) if task.method == "sft" else maker.pairs(count, task.problem, task.method == "step_dpo")
    )
    return Work(task, rows, 2 * micro, micro, LoraSettings(r=16) if task.lora else None)


@dataclass(frozen=True)
class Found:
    """What a contender did."""

    rate: float  # examples or pairs a second
    memory: float | None  # GiB of the GPU at the peak
    flops: float = 0.0  # useful ones an example


class Packed(Dataset):
    """No two sequences share a trunk."""

    def rows(
        self, indices: Sequence[int] | np.ndarray, share: bool = True, budget: int | None = None, multiple: int = 1
    ) -> Rows:
        return super().rows(indices, False, budget, multiple)


def measure(setup: Setup, task: Task) -> list[Row]:
    """A row for each peer, then what it is in tokens, MFU and memory."""
    work = work_of(task, setup)
    unit = "examples/s" if task.method == "sft" else "pairs/s"
    ours = trained(setup, work, Dataset)
    peers: dict[str, Callable[[], Found]] = {"padded loop": partial(padded, setup, work)}
    if task.method != "sft":  # ours packs single solutions anyhow
        peers["packing"] = partial(trained, setup, work, Packed)
    if find_spec("trl"):
        peers["trl"] = partial(trl, setup, work)
    rows, memory = [], dict[str, float]()
    for name, run in peers.items():
        try:
            found = run()
        except torch.OutOfMemoryError as error:
            rows.append(replace(row(task.name, ours.rate, unit, name), note=f"{name}: {told(error)}"))
            continue
        rows.append(row(task.name, ours.rate, unit, name, found.rate))
        if found.memory:
            memory[name] = found.memory
    return rows + derived(setup, work, ours, memory)


def derived(setup: Setup, work: Work, ours: Found, memory: dict[str, float]) -> list[Row]:
    """Useful tokens, MFU and memory of our side."""
    useful = statistics.mean(useful_tokens(one) for one in work.rows)
    mfu = 100 * ours.rate * ours.flops / setup.peak
    goal = GOALS[work.task.method]
    note = f"goal: {goal:g}" if work.task.shape == "1.5B" else "of a measured matrix product" * (setup.device == "cpu")
    out = [
        row(f"{work.task.name}: useful tokens", ours.rate * useful, "tokens/s"),
        replace(row(f"{work.task.name}: MFU", mfu, "%"), note=note),
    ]
    peak = f"{work.task.name}: peak memory"
    for peer, theirs in memory.items():
        out.append(row(peak, ours.memory or 0.0, "GiB", peer, theirs, lower_is_better=True))
    return out


def useful_tokens(one: Example | PreferencePair) -> int:
    """Of a prompt and what follows it, all branches."""
    if isinstance(one, Example):
        return len(one.prompt_token_ids) + len(one.completion_token_ids)
    return len(one.prompt_token_ids) + len(one.chosen_token_ids) + len(one.rejected_token_ids)


def clock(setup: Setup) -> float:
    """Seconds: of the wall where a GPU works, after it is done; of this process on a CPU, which others may share."""
    if setup.device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def median_step(setup: Setup, step: Callable[[int], Any]) -> float:
    """Seconds of the median step after the warm-up."""
    times = [clock(setup)]
    for number in range(WARM + TIMED):
        step(number)
        times.append(clock(setup))
    return statistics.median(np.diff(times)[WARM:])


@contextmanager
def clean(setup: Setup) -> Iterator[Callable[[], float | None]]:
    """The GPU's memory empty before and after; gives the peak in GiB."""
    gpu = setup.device == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    try:
        yield lambda: torch.cuda.max_memory_allocated() / 2**30 if gpu else None
    finally:
        gc.collect()
        if gpu:
            torch.cuda.empty_cache()


def trained(setup: Setup, work: Work, kind: type[Dataset]) -> Found:
    """The product's loop."""
    device = one_rank(setup.device)
    with tempfile.TemporaryDirectory() as folder, clean(setup) as peak:
        Path(folder, "model").symlink_to(folder_of(work.task.shape, setup.device), target_is_directory=True)
        how: dict[str, Any] = {"batch": work.batch, "micro_batch": work.micro_batch, "steps": WARM + TIMED}
        how |= {"precision": precision(setup), "lora": work.lora}
        job: Job = job_of(Path(folder), setup, work.rows, group="problem" if work.task.problem > 1 else "none", **how)
        data = load(job.dataset, job.settings.max_length, job.settings)
        trainer = Trainer(job, kind(**vars(data)), device)
        if trainer.engine.module.attention == "plain":
            raise RuntimeError("the model does not take trees")
        trainer.engine.train()
        seconds = median_step(setup, trainer.step)
        useful = statistics.mean(useful_tokens(one) for one in work.rows)
        branches = 1 if work.task.method == "sft" else 2
        flops = trainer.cost.flops(useful, useful / branches)
        found = Found(work.batch / seconds, peak(), flops)
        trainer.engine.close()
        del trainer
    return found


def precision(setup: Setup) -> str:
    return "bf16" if setup.device == "cuda" else "fp32"


def padded(setup: Setup, work: Work) -> Found:
    """The plain loop."""
    with clean(setup) as peak:
        dtype = torch.bfloat16 if setup.device == "cuda" else torch.float32
        path, device = folder_of(work.task.shape, setup.device), torch.device(setup.device)
        loop = PaddedLoop(path, work.rows, device, dtype, work.batch, work.micro_batch, work.lora)
        seconds = median_step(setup, loop.step)
        found = Found(work.batch / seconds, peak())
        del loop
    return found


def trl(setup: Setup, work: Work) -> Found:
    """TRL, in a process of its own: in one with a process group it would train as one of several workers."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _alone) as apart:
        return apart.submit(_trl, setup, work, folder_of(work.task.shape, setup.device)).result()


def _alone() -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)


def _trl(setup: Setup, work: Work, path: str) -> Found:
    lora = None
    if work.lora:
        from peft import LoraConfig

        lora = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear")
    if setup.device == "cpu":
        torch.set_num_threads(1)
    with clean(setup) as peak, tempfile.TemporaryDirectory() as folder:
        got = trl_peer.train(
            path,
            work.rows,
            Path(folder),
            partial(clock, setup),
            batch=work.batch,
            micro_batch=work.micro_batch,
            steps=WARM + TIMED,
            precision=precision(setup),
            gpu=setup.device == "cuda",
            max_length=2048,
            packed=2048 if setup.device == "cuda" else 64,
            lora=lora,
        )
        seconds = statistics.median(got.seconds[WARM - 1 :])
        return Found(work.batch * got.examples / seconds, peak())
