"""Temporary folders that know whether their owner lives.

The owner holds a lock on a file of the folder; the system takes it away with the process, however that ends. So a
folder whose lock is free is left over, and the next job sweeps it. A process id would do less: ids are used again, and
mean something else in another container that shares the temporary directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "eightfold-"
OWNER = "owner.lock"


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """A temporary folder while entered, readable by its owner alone. Sweeps what earlier owners left."""
    sweep()
    folder = tempfile.mkdtemp(prefix=PREFIX)
    handle = os.open(Path(folder, f"{OWNER}.new"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        os.rename(Path(folder, f"{OWNER}.new"), Path(folder, OWNER))  # no moment in which the lock is there, but free
        yield folder
    finally:
        _remove(Path(folder))
        os.close(handle)


def sweep() -> list[str]:
    """Remove temporary folders whose owner is gone; their paths."""
    return [str(lock.parent) for lock in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{OWNER}") if _left(lock)]


def _left(lock: Path) -> bool:
    """Remove the folder of a lock that nobody holds; whether that was so."""
    try:
        handle = os.open(lock, os.O_RDWR)
    except (FileNotFoundError, PermissionError):  # removed by its owner just now, or another user's
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        _remove(lock.parent)
        return True
    finally:
        os.close(handle)


def _remove(folder: Path) -> None:
    """The lock goes last: where a process still writes into the folder, the next sweep finds it."""
    for each in folder.glob("*"):
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each, ignore_errors=True)
        elif each.name != OWNER:
            each.unlink(missing_ok=True)
    if all(each.name == OWNER for each in folder.glob("*")):
        shutil.rmtree(folder, ignore_errors=True)
