"""Checkpoints that count only when complete: written aside, listed, renamed; the newest two are kept."""

from __future__ import annotations

import json
import os
import posixpath
import shutil
from pathlib import Path

import torch.distributed as dist

from app.errors import UserError
from app.remote_folder import LISTING, Listing, sampled_digest
from app.training.backend import Backend

KEEP = 2  # the one before last stays in case the last turns out damaged


def save(engine: Backend, folder: Path, step: int) -> None:
    """Save on all ranks after `step` steps."""
    final, temporary = folder / f"step-{step:08d}", folder / f".step-{step:08d}"
    first = dist.get_rank() == 0
    if first:
        shutil.rmtree(temporary, ignore_errors=True)  # left by a run that was killed here
        temporary.mkdir(parents=True)
    dist.barrier()
    engine.write(temporary)
    dist.barrier()
    if first:
        files = sorted(f for f in temporary.rglob("*") if f.is_file())
        for file in files:
            _flush(file)
        listed = {str(file.relative_to(temporary)): sampled_digest(file) for file in files}
        (temporary / LISTING).write_text(json.dumps({"step": step, "facts": engine.layout(), "files": listed}))
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
    """Checkpoints with every file of their listing as it was written, oldest first."""
    return [path for path in sorted(folder.glob("step-*")) if _whole(path)]


def damaged(folder: Path) -> list[Path]:
    """Checkpoint folders that lack something."""
    return [path for path in sorted(folder.glob("step-*")) if not _whole(path)]


def _whole(path: Path) -> bool:
    """Whether every file is there, and is this run's own: they are unpickled, so no link may lead out of the folder."""
    own = path.parent.resolve() / path.name
    try:
        files = json.loads((path / LISTING).read_text())["files"]
        reached = [path, *path.rglob("*"), *(path / name for name in files)]
        if not all(file.resolve().is_relative_to(own) for file in reached):
            return False
        return all(sampled_digest(path / name) == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError):  # a file or the listing is missing or cut off
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


def load(engine: Backend, path: Path) -> int:
    """Restore weights and optimiser state; returns the number of steps. Only files this run wrote are read (they are
    pickles). Raises UserError where the ZeRO stage or precision is another one.
    """
    listing = json.loads((path / LISTING).read_text())
    restore(engine, path, cut_alike(engine, listing, str(path)), str(path), dist.get_rank() == 0)
    return int(listing["step"])


def cut_alike(engine: Backend, listing: Listing, called: str) -> bool:
    """Whether each rank can read the part it finds under its number. ZeRO checkpoints hold a part a worker; at another
    number of workers they must be put together first. Raises UserError where that would not help.
    """
    then, now = ({"backend": "deepspeed"} | facts for facts in (listing["facts"], engine.layout()))
    for key in sorted((now.keys() | then.keys()) - {"world"}):
        if then.get(key) != now.get(key):
            raise UserError(
                f"{called}: written with {key} {then.get(key)}, now it is {now.get(key)}; set it back, "
                f"or delete {posixpath.dirname(called)} to start over"
            )
    return engine.alike(listing["facts"])


def restore(engine: Backend, path: Path, alike: bool, called: str, joins: bool) -> None:
    """Read a checkpoint's files in `path`, which users know as `called`. Where it is not cut alike, those ranks that
    are told so first join its parts beside it, for all that see the same disk.
    """
    folder = path if alike else path.with_name(f".joined-{path.name}")
    if not alike:
        if joins:
            engine.join(path, folder)
        dist.barrier()
    _read_on_all(engine, called, folder, not alike)
    if not alike and joins:
        shutil.rmtree(folder)


def _read_on_all(engine: Backend, called: str, folder: Path, joined: bool) -> None:
    """Every rank reads its part; where one cannot, all raise the same UserError instead of waiting for it."""
    failure = ""
    try:
        engine.read(folder, joined)
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
    said: list[str] = [""] * dist.get_world_size()
    dist.all_gather_object(said, failure)
    if any(said):
        raise UserError(
            f"{called}: cannot be read ({next(filter(None, said))}); delete it to go on from the one before"
        )
