"""Where a run's checkpoints lie: in its folder on a disk that all workers see, or in object storage.

    .../checkpoints/step-*/complete.json     as checkpoint.py writes it; in storage also which rank wrote which file

In storage every rank uploads the files it wrote, from a folder of its own on its node's disk, while training goes on.
After each step the ranks tell each other how far they are, and rank 0 lists all files when all are there. Going on, a
node downloads what its ranks read: their own files and those of rank 0, or everything where the number of workers is
another one.
"""

from __future__ import annotations

import posixpath
import shutil
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch.distributed as dist

from app.remote_folder import Folder, Listing
from app.store import Output, cache
from app.training import checkpoint
from app.training.backend import Backend, Facts


class CheckpointStore(Protocol):
    """Checkpoints of one run. `save`, `settle` and `load` are called on all ranks, the others anywhere."""

    def save(self, engine: Backend, step: int) -> None:
        """Write down the state after `step` steps; `settle` makes it count. One still on its way comes first."""

    def settle(self, wait: bool = False) -> None:
        """Make the saved checkpoint count if it has arrived, with `wait` when it has. Raises what went wrong on its
        way."""

    def load(self, engine: Backend) -> int:
        """Restore the newest complete one and return its steps; 0 where there is none."""

    def complete(self) -> list[int]:
        """Steps of those that are whole, ascending."""

    def damaged(self) -> list[str]:
        """Addresses of those that lack something."""


def checkpoint_store(output: Output) -> CheckpointStore:
    """The checkpoints of a training stage."""
    return Stored(output) if output.remote else OnDisk(output.local("checkpoints"))


class OnDisk:
    """On a disk that all ranks see."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, engine: Backend, step: int) -> None:
        checkpoint.save(engine, self.folder, step)

    def settle(self, wait: bool = False) -> None:
        """On a disk a checkpoint counts as soon as it is written."""

    def load(self, engine: Backend) -> int:
        path = checkpoint.latest(self.folder)
        return checkpoint.load(engine, path) if path else 0

    def complete(self) -> list[int]:
        return [checkpoint.step_of(path) for path in checkpoint.complete(self.folder)]

    def damaged(self) -> list[str]:
        return [str(path) for path in checkpoint.damaged(self.folder)]


@dataclass(frozen=True)
class Pending:
    """A checkpoint on its way."""

    step: int
    aside: Path  # where this rank wrote its files
    upload: Future[dict[str, str]]  # this rank's; their digests


class Stored:
    """In object storage; nodes share no disk."""

    def __init__(self, output: Output) -> None:
        self.uri = posixpath.join(output.uri, "checkpoints")
        self.aside = output.local("checkpoints")
        self.beside = ThreadPoolExecutor(1, "checkpoints")
        self.pending: Pending | None = None
        self.pruning: Future[None] | None = None
        self.facts: Facts = {}

    def folder(self, name: str) -> Folder:
        return Folder(posixpath.join(self.uri, name))

    def save(self, engine: Backend, step: int) -> None:
        self.settle(wait=True)
        name, rank = _name(step), dist.get_rank()
        aside = self.aside / f"{name}-{rank}"
        for left in self.aside.glob(f"step-*-{rank}"):  # by a run that was killed here
            shutil.rmtree(left)
        aside.mkdir(parents=True)
        if rank == 0:
            self.folder(name).remove()
        dist.barrier()
        engine.write(aside)
        self.facts = engine.layout()
        self.pending = Pending(step, aside, self.beside.submit(self.folder(name).put, aside))

    def settle(self, wait: bool = False) -> None:
        if self.pending and (parts := self._arrived(self.pending.upload, wait)):
            shutil.rmtree(self.pending.aside)
            if dist.get_rank() == 0:
                self._commit(self.pending.step, parts)
            self.pending = None
            dist.barrier()
        if self.pruning and (wait or self.pruning.done()):
            self.pruning.result()
            self.pruning = None

    def _arrived(self, upload: Future[dict[str, str]], wait: bool) -> list[dict[str, str]]:
        """What each rank uploaded, by rank; nothing where one of them is not at its end."""
        parts: list[dict[str, str] | None] = [None] * dist.get_world_size()
        dist.all_gather_object(parts, upload.result() if wait or upload.done() else None)
        there = [part for part in parts if part is not None]
        return there if len(there) == len(parts) else []

    def _commit(self, step: int, parts: list[dict[str, str]]) -> None:
        files = {file: digest for part in parts for file, digest in part.items()}
        ranks = {file: number for number, part in enumerate(parts) for file in part}
        self.folder(_name(step)).commit({"step": step, "facts": self.facts, "files": files, "ranks": ranks})
        self.pruning = self.beside.submit(self._prune, step)

    def _prune(self, newest: int) -> None:
        """Remove what is older than the KEEP newest whole ones. The newest was just written: it is not read again."""
        kept = 1
        for name in reversed([name for name in self._names() if checkpoint.step_of(Path(name)) < newest]):
            if kept >= checkpoint.KEEP:
                self.folder(name).remove()
            elif self._whole(name):
                kept += 1

    def load(self, engine: Backend) -> int:
        rank = dist.get_rank()
        found: list[tuple[str, Listing] | None] = [self._newest() if rank == 0 else None]
        dist.broadcast_object_list(found, src=0)
        if found[0] is None:
            return 0
        name, listing = found[0]
        folder, ranks = self.folder(name), listing.get("ranks", {})
        alike = checkpoint.cut_alike(engine, listing, folder.uri)
        path = folder.fetch(
            listing, [file for file in listing["files"] if not alike or ranks.get(file, 0) in (0, rank)]
        )
        dist.barrier()  # a node's ranks share the copy
        checkpoint.restore(engine, path, alike, folder.uri, _first_of_its_node())
        shutil.rmtree(path, ignore_errors=True)
        return int(listing["step"])

    def _newest(self) -> tuple[str, Listing] | None:
        for name in reversed(self._names()):
            if listing := self._whole(name):
                return name, listing
        return None

    def _names(self) -> list[str]:
        return [name for name in Folder(self.uri).below() if name.startswith("step-")]

    def _whole(self, name: str) -> Listing | None:
        """The listing of a checkpoint that has all it lists."""
        listing = self.folder(name).listing()
        return listing if listing and self.folder(name).whole(listing) else None

    def complete(self) -> list[int]:
        return [checkpoint.step_of(Path(name)) for name in self._names() if self._whole(name)]

    def damaged(self) -> list[str]:
        return [self.folder(name).uri for name in self._names() if not self._whole(name)]


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _first_of_its_node() -> bool:
    """Whether no rank below this one sees the same cache."""
    nodes: list[str] = [""] * dist.get_world_size()
    dist.all_gather_object(nodes, f"{socket.gethostname()}:{cache().resolve()}")
    return nodes.index(nodes[dist.get_rank()]) == dist.get_rank()
