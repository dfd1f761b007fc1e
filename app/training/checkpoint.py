"""Checkpoints that count only when complete: written aside, listed, renamed; the newest two are kept."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch.distributed as dist

LISTING = "complete.json"
KEEP = 2  # the one before last stays in case the last turns out damaged


def save(engine: Any, folder: Path, step: int, facts: dict[str, Any]) -> None:
    """Save on all ranks after `step` steps. `facts` are kept beside it and returned by `latest`."""
    final, temporary = folder / f"step-{step:08d}", folder / f".step-{step:08d}"
    first = dist.get_rank() == 0
    if first:
        shutil.rmtree(temporary, ignore_errors=True)  # left by a run that was killed here
        temporary.mkdir(parents=True)
    dist.barrier()
    engine.save_checkpoint(str(temporary), tag="state", save_latest=False, exclude_frozen_parameters=False)
    dist.barrier()
    if first:
        listed = {str(f.relative_to(temporary)): f.stat().st_size for f in temporary.rglob("*") if f.is_file()}
        for name in listed:
            _flush(temporary / name)
        (temporary / LISTING).write_text(json.dumps({"step": step, "facts": facts, "files": listed}))
        _flush(temporary / LISTING)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
        for old in complete(folder)[:-KEEP]:
            shutil.rmtree(old)
    dist.barrier()


def _flush(path: Path) -> None:
    """Make sure of the bytes before the rename that makes them count."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def complete(folder: Path) -> list[Path]:
    """Checkpoints with every file of their listing at its full size, oldest first."""
    return [path for path in sorted(folder.glob("step-*")) if _whole(path)]


def damaged(folder: Path) -> list[Path]:
    """Checkpoint folders that lack something."""
    return [path for path in sorted(folder.glob("step-*")) if not _whole(path)]


def _whole(path: Path) -> bool:
    try:
        files = json.loads((path / LISTING).read_text())["files"]
        return all((path / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError):
        return False


def step_of(path: Path) -> int:
    """The number of steps a checkpoint holds."""
    return int(path.name.removeprefix("step-"))


def latest(folder: Path) -> Path | None:
    """The checkpoint to go on from; the same on every rank, because rank 0 decides."""
    found: list[Path | None] = [None]
    if dist.get_rank() == 0:
        found = [(complete(folder) or [None])[-1]]  # type: ignore[list-item]
    dist.broadcast_object_list(found, src=0)
    return found[0]


def load(engine: Any, path: Path) -> tuple[int, dict[str, Any]]:
    """Restore weights and optimiser state; returns (step, facts). Only files this run wrote are read (they are pickles)."""
    listing = json.loads((path / LISTING).read_text())
    where, _ = engine.load_checkpoint(str(path), tag="state", load_lr_scheduler_states=False)
    if where is None:
        raise RuntimeError(f"{path}: DeepSpeed could not load this checkpoint")
    return int(listing["step"]), listing["facts"]
