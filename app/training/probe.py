"""How fast a training is with other settings: a few steps of it on one worker, in a process that ends again."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from app.training.job import Job

WARM, TIMED = 1, 3  # steps


@dataclass(frozen=True)
class Probe:
    """What a few steps took."""

    seconds: float  # the median step's
    memory: float  # GiB of the GPU at the peak; 0 without one
    failed: str = ""  # why it did not run, such as memory that did not suffice


def probe(job: Job, seconds: float) -> Probe:
    """Train `job` for a few steps and keep nothing; given up after `seconds`."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
        task = apart.submit(_steps, job)
        try:
            return task.result(timeout=seconds)
        except TimeoutError:
            for process in apart._processes.values():
                process.kill()
            return Probe(0.0, 0.0, f"stopped after {seconds:.0f} s")
        except BrokenProcessPool:
            return Probe(0.0, 0.0, "its process was killed: memory did not suffice, most likely")


def _steps(job: Job) -> Probe:
    import torch
    import torch.distributed as dist

    from app.training.dataset import load
    from app.training.loop import Trainer

    gpu = bool(job.placement.gpus)
    os.environ |= {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    if not gpu:
        torch.set_num_threads(max(1, int(job.placement.cpus)))
    dist.init_process_group("cuda:nccl,cpu:gloo" if gpu else "gloo", store=dist.HashStore(), rank=0, world_size=1)
    device = torch.device("cuda", 0) if gpu else torch.device("cpu")
    try:
        trainer = Trainer(job, load(job.dataset, job.settings.max_length, job.settings), device)
        trainer.engine.train()
        times = []
        for step in range(min(WARM + TIMED, trainer.order.steps)):
            begun = time.perf_counter()
            trainer.step(step)
            times.append(time.perf_counter() - begun)
    except torch.OutOfMemoryError:
        return Probe(0.0, 0.0, "the GPU's memory does not suffice")
    memory = torch.cuda.max_memory_allocated() / 2**30 if gpu else 0.0
    return Probe(statistics.median(times[WARM:] or times), memory)
