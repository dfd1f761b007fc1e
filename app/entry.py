"""How a job begins: its doors closed before Ray is imported, and a watcher over it that can stop it at any moment.

    if __name__ == "__main__":
        begin()

stands in a job before its heavy imports. The process that was started stays small and only waits; the job itself goes
on in a child. So a signal is answered at once, whatever the job does: importing, starting Ray, computing in C. The job
gets a moment for its last notes (`at_stop`), then its whole family of processes ends.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import psutil  # type: ignore[import-untyped]

from app.errors import UserError
from app.scratch import sweep

RESUMABLE = "stopped; what is finished is safe: run the same command again to go on"
NOTES = 2.0  # seconds that the last notes may take
GONE = 1.0  # seconds that killed processes may take to end
_LAST = b"n"  # to the job: write your last notes; from it: they are written

_notes: list[Callable[[], None]] = []
_consoles: list[int] = []  # descriptors of the console besides 1 and 2
_watcher: int | None = None  # its process id; None where nothing watches
_job = 0


def begin(said: str = RESUMABLE) -> None:
    """Close the doors, and go on in a child that this process watches; it exits as the child does.

    On SIGINT, SIGTERM or SIGHUP it prints `said` and ends with 128 + the signal's number, all processes of the job
    gone, its temporary folder with them. A signal that whoever started us had ignored stays ignored.
    """
    close_doors()
    stops = [s for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) != signal.SIG_IGN]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [*stops, signal.SIGCHLD])
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child:
        theirs.close()
        code = _watch(child, ours, stops, said)
        sys.stdout.flush()
        os._exit(code)
    ours.close()
    _become_job(theirs)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def close_doors() -> None:
    """Make a private Ray listen on loopback alone and ask for a token of its own. Ray reads this when it is imported;
    a job under RAY_ADDRESS uses the doors of its cluster.
    """
    if os.environ.get("RAY_ADDRESS"):
        return
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's name for it, on Linux too
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if not os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray leaves one in ~/.ray, for all to read


def hold_signals() -> None:
    """Leave signals to the watcher; again after a library has put in handlers of its own."""
    if _watcher is None:
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _pass_on)


@contextlib.contextmanager
def native_noise(log: Path) -> Iterator[None]:
    """While entered, what libraries in C and children write on the error output goes to the end of a file; what Python
    writes still goes to the console. Nothing changes where sys.stderr is not the error output.

    Raises UserError where the file cannot be written.
    """
    before = sys.stderr
    if sys.__stderr__ is None or before is not sys.__stderr__:
        yield
        return
    before.flush()
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = log.open("ab")
    except OSError as error:
        raise UserError(f"cannot write in run folder {log.parent}: {error}. Choose another folder") from error
    ours = os.dup(2)
    _consoles.append(ours)
    with file, os.fdopen(os.dup(ours), "w", buffering=1) as console:
        os.dup2(file.fileno(), 2)
        sys.stderr = console
        _consoles.append(console.fileno())
        try:
            yield
        finally:
            sys.stderr = before
            os.dup2(ours, 2)
            _consoles.clear()
            os.close(ours)


@contextlib.contextmanager
def at_stop(note: Callable[[], None]) -> Iterator[None]:
    """While entered, `note` is called from another thread when the job is stopped. It should be quick."""
    _notes.append(note)
    try:
        yield
    finally:
        _notes.remove(note)


# -- the job ----------------------------------------------------------------------------------------------------------


def _become_job(line: socket.socket) -> None:
    global _watcher, _job
    _watcher, _job = os.getppid(), os.getpid()
    hold_signals()
    threading.Thread(target=_listen, args=(line,), name="stop", daemon=True).start()


def _pass_on(number: int, _frame: FrameType | None) -> None:
    """The watcher answers, also where only the job heard the signal. A process that it forked behaves as usual."""
    if os.getpid() == _job and _watcher:
        os.kill(_watcher, number)
    else:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _listen(line: socket.socket) -> None:
    """Wait for the watcher's word; without a watcher there is no job."""
    if line.recv(1) != _LAST:
        os._exit(128 + signal.SIGKILL)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for told in {1, 2, *_consoles}:
        os.dup2(nowhere, told)  # the watcher's line is the last one
    for note in reversed(_notes):
        note()
    line.sendall(_LAST)


# -- the watcher ------------------------------------------------------------------------------------------------------


def _watch(child: int, line: socket.socket, stops: list[signal.Signals], said: str) -> int:
    """Wait for the child's end or a signal; the exit code."""
    while True:
        heard = signal.sigwait([*stops, signal.SIGCHLD])
        if heard != signal.SIGCHLD:
            print(f"\n{said}", file=sys.stderr, flush=True)
            _stop(child, line)
            return 128 + heard
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            sweep()
            code = os.waitstatus_to_exitcode(status)
            if code < 0:
                print(f"\nthe job was killed by {signal.Signals(-code).name}", file=sys.stderr)
            return code if code >= 0 else 128 - code


def _stop(child: int, line: socket.socket) -> None:
    family = _family({psutil.Process(child)})  # known while the child lives: later they have other parents
    line.settimeout(NOTES)
    with contextlib.suppress(TimeoutError, ConnectionError):  # notes are a courtesy: a kill leaves none either
        line.sendall(_LAST)
        line.recv(1)
    _end(family)
    os.waitpid(child, 0)
    end = time.monotonic() + GONE
    while any(_alive(process) for process in family) and time.monotonic() < end:
        time.sleep(0.02)
    sweep()


def _end(family: set[psutil.Process]) -> None:
    """Kill processes and all that they started: first nobody may start another, then all die."""
    frozen: set[psutil.Process] = set()
    while family - frozen:
        for process in family - frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
            frozen.add(process)
        family |= _family(family)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _family(known: set[psutil.Process]) -> set[psutil.Process]:
    """Processes and their descendants."""
    parents: dict[int, list[psutil.Process]] = {}
    for process in psutil.process_iter(["ppid"]):
        parents.setdefault(process.info["ppid"], []).append(process)
    found, look = set(known), list(known)
    while look:
        new = [process for process in parents.get(look.pop().pid, []) if process not in found]
        found.update(new)
        look += new
    return found


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
