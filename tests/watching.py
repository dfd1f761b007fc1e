"""Starts a shipped command on a terminal and watches its family of processes: what it listens on, what it leaves."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
PATIENCE = 600  # seconds for a moment to come; busy machines are slow


def beyond_loopback(processes: list[psutil.Process]) -> list[str]:
    """Sockets that listen on an address other hosts can reach."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            for connection in process.net_connections(kind="inet"):
                address = connection.laddr
                if connection.status == psutil.CONN_LISTEN:
                    ip = ipaddress.ip_address(address.ip)
                    ip = getattr(ip, "ipv4_mapped", None) or ip
                    if not ip.is_loopback:
                        found.append(f"{process.name()} on {address.ip}:{address.port}")
    return found


class Watched:
    """`python -m COMMAND` on a terminal of its own, its temporary folders and home in `folder`."""

    def __init__(self, folder: Path, *command: str) -> None:
        self.temporary, self.home = folder / "t", folder / "home"
        for place in (self.temporary, self.home):
            place.mkdir(exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment |= {"TMPDIR": str(self.temporary), "HOME": str(self.home)}
        self.terminal, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LEAD, sys.executable, "-m", *command],
            cwd=ROOT,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.said = b""
        self.family: set[psutil.Process] = set()
        self.listening: set[str] = set()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # how a terminal says that its other side is closed
            while some := os.read(self.terminal, 4096):
                self.said += some

    def look(self) -> set[str]:
        """Note who is there and what they listen on; names of those there."""
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.process.pid)
            now = [root, *root.children(recursive=True)]
            self.family.update(now)
            self.listening.update(beyond_loopback(now))
        names = set()
        for process in self.family:
            with contextlib.suppress(psutil.NoSuchProcess):
                names.add(process.name())
        return names

    def until(self, come: Callable[[set[str]], bool]) -> None:
        """Watch until `come(names of processes)`; the test fails where the command ends before."""
        end = time.monotonic() + PATIENCE
        while not come(self.look()):
            assert self.process.poll() is None, self.text
            assert time.monotonic() < end, self.text
            time.sleep(0.05)

    def until_gone(self) -> None:
        """Wait until nothing of the family runs."""
        end = time.monotonic() + PATIENCE
        while self.running():
            assert time.monotonic() < end, self.running()
            time.sleep(0.05)

    def to_the_end(self) -> int:
        """Watch until it ends; its exit code."""
        while self.process.poll() is None:
            self.look()
            time.sleep(0.1)
        return self.process.returncode

    def stop(self, number: signal.Signals) -> tuple[int, float, list[str]]:
        """Ctrl+C by the terminal, or a signal; (exit code, seconds, lines printed from then on)."""
        before, start = len(self.said), time.monotonic()
        if number == signal.SIGINT:
            os.write(self.terminal, b"\x03")
        else:
            self.process.send_signal(number)
        code = self.process.wait(120)
        took = time.monotonic() - start
        self._reader.join(10)
        lines = self.said[before:].decode(errors="replace").replace("^C", "").splitlines()
        return code, took, [line for line in lines if line.strip()]

    @property
    def text(self) -> str:
        return self.said.decode(errors="replace")[-4000:]

    def left(self) -> list[str]:
        """Processes of the family that still run, and temporary folders of runs."""
        return self.running() + [str(path) for path in self.temporary.glob("eightfold-*")]

    def running(self) -> list[str]:
        """Processes of the family that still run."""
        running = []
        for process in self.family:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    running.append(process.name())
        return running

    def close(self) -> None:
        """End it, however it stands."""
        self.look()
        for process in self.family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        os.close(self.terminal)


# Takes the terminal as its own, so that Ctrl+C means it, also where its parent ignores that; then the command.
_LEAD = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGINT, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
