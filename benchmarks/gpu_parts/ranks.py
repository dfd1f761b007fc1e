"""Ranks of a process group, each a process forked from this one, which must not have touched the GPU."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as multiprocessing

from benchmarks.gpu_parts.training import joined


def spawn(count: int, device: str, function: Callable[..., None], *arguments: Any) -> None:
    """Call function(device, *arguments) on `count` ranks. Where one fails or dies the others are ended, as Ray Train
    does, and an exception says what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.start_processes(
            _begin, (count, device, str(Path(folder, "store")), function, arguments), count, start_method="fork"
        )


def _begin(rank: int, count: int, device: str, store: str, function: Callable[..., None], arguments: Any) -> None:
    if device == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // count))
    function(joined(device, rank, count, torch.distributed.FileStore(store, count)), *arguments)
    torch.distributed.destroy_process_group()
