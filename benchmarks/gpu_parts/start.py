"""Training's start-up: a model is loaded, wrapped and checked as on a worker, and takes trees or says why not."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

from app.training.model import build
from benchmarks.gpu_parts import models
from benchmarks.gpu_parts.case import FAILED, Case, Setup, absent
from benchmarks.gpu_parts.training import job_of, one_rank
from benchmarks.table import Row, row


def cases(setup: Setup) -> list[Case]:
    size = "small" if setup.device == "cuda" else "tiny"
    return [
        Case(f"start-up check, {family}, {precision}", partial(check, setup, f"{size}-{family}", precision), 180)
        for family in models.FAMILIES
        for precision in ("fp32", "bf16")
    ]


def check(setup: Setup, shape: str, precision: str) -> list[Row]:
    """Seconds from the folder to a model that is ready to be trained; failed where it does not take trees."""
    device = one_rank(setup.device)
    with tempfile.TemporaryDirectory() as folder:
        models.save(Path(folder, "model"), shape, setup.device, spread=True)
        job = job_of(Path(folder), setup, precision=precision)
        begun = time.perf_counter()
        engine = build(job, device)
        seconds = time.perf_counter() - begun
        kind = engine.module.attention
        engine.close()
    name = f"start-up check, {shape}, {precision}, {kind} attention"
    if kind == "plain":
        return [absent(name, f"{FAILED}it does not take trees; see what training printed")]
    return [row(name, seconds, "s")]
