"""One job a run: a lock on a file where the run lies on a disk, a lease (app/lease.py) where it lies in a bucket."""

from __future__ import annotations

import contextlib
import fcntl
import os
import posixpath
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from app.conditional_file import Unconditional, conditional_file
from app.entry import at_stop
from app.errors import UserError
from app.lease import Lease, Times
from app.store import filesystem

LOCK = ".lock"
TIMES = Times()


class Lock(Protocol):
    """What a job holds while it works on a run."""

    @property
    def held(self) -> bool:
        """Whether the run is still this job's: it writes nothing into it any more where it is not."""

    def check(self) -> None:
        """Raise UserError where it is not."""


class Kept:
    """A lock that nobody can take away."""

    held = True

    def check(self) -> None:
        """It is held until its end."""


@contextlib.contextmanager
def run_lock(root: str) -> Iterator[Lock]:
    """Hold a run for one job, at a path or URI. A second job gets a UserError that names the first one."""
    if root.startswith("file://"):
        root = filesystem(root)[1]
    with _lease(root) if "://" in root else _file_lock(root) as lock:
        yield lock


@contextlib.contextmanager
def _file_lock(root: str) -> Iterator[Lock]:
    path = Path(root, LOCK)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+")
    except OSError as error:
        raise UserError(f"cannot write in run folder {root}: {error}. Choose another with --runs") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            owner = handle.read().strip() or "another process"
            raise UserError(f"{root}: in use by {owner}; wait for it, or give this run another name") from None
        handle.truncate(0)
        handle.write(f"pid {os.getpid()} on {os.uname().nodename}")
        handle.flush()
        yield Kept()


@contextlib.contextmanager
def _lease(root: str) -> Iterator[Lock]:
    lease = _taken(root)
    if lease is None:
        print(
            f"warning: {root} is not locked: its storage has no conditional writes. Two jobs on this run would spoil "
            "each other; see to it that this is the only one",
            file=sys.stderr,
        )
        yield Kept()
        return
    try:
        with at_stop(lease.release):
            yield lease
    finally:
        lease.release()


def _taken(root: str) -> Lease | None:
    """A lease that this job holds; None where the storage can keep none."""
    try:
        file = conditional_file(posixpath.join(root, LOCK))
        if file is None:
            return None
        lease = Lease(root, file, TIMES)
        lease.take()
        return lease
    except Unconditional:
        return None
    except OSError as error:
        raise UserError(
            f"{root}: the run's lock cannot be written: {error}. Mend the access to it, then run the same command"
        ) from error
