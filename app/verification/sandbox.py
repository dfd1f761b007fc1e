"""A killable worker process for the symbolic tier: started when first needed, recycled, ended with this process.

A request is a tree as JSON; nothing is pickled. A request past its deadline kills the worker and no other request
notices: the next one starts a fresh worker. Works from any thread; one request at a time per process.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from app.verification.tree import Node

DEADLINE = 4.0  # seconds a request
START_DEADLINE = 120.0  # seconds to import sympy on a busy machine
MEMORY = 96 * 2**20  # bytes a worker may map beyond what importing sympy takes (about 80 MiB resident)
REQUESTS = 200  # before a worker is replaced
_ROOT = str(Path(__file__).resolve().parents[2])
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from app.verification.worker import main; "
    "main(float(sys.argv[2]), int(sys.argv[3]))"
)


class SandboxTimeout(RuntimeError):
    """A request passed its deadline; its worker was killed."""


class SandboxError(RuntimeError):
    """A worker died or refused: out of memory, or an expression sympy cannot treat."""


class Sandbox:
    """One worker process, owned by the process that started it."""

    def __init__(self, deadline: float = DEADLINE, memory: int = MEMORY, requests: int = REQUESTS) -> None:
        self.deadline, self.memory, self.requests = deadline, memory, requests
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.owner = 0
        self.served = 0
        self.rest = b""

    def call(self, name: str, *args: Any) -> Any:
        """The result of one function of symbolic.py. Raises SandboxTimeout or SandboxError."""
        with self.lock:
            process = self._running()
            assert process.stdin is not None
            request = json.dumps({"call": name, "args": args}).encode() + b"\n"
            try:
                process.stdin.write(request)
                process.stdin.flush()
                reply = self._line(process, self.deadline)
            except SandboxTimeout:
                self._stop()
                raise
            except (OSError, EOFError) as error:
                self._stop()
                raise SandboxError(f"the worker died: {error}") from None
            self.served += 1
            if self.served >= self.requests:
                self._stop()
        if "error" in reply:
            raise SandboxError(reply["error"])
        return reply["value"]

    def _running(self) -> subprocess.Popen[bytes]:
        """The worker, started if there is none or if this process is a fork of the one that started it."""
        if self.process is not None and self.owner != os.getpid():
            self.process = None  # our parent's: its pipes are not ours to use
        if self.process is not None and self.process.poll() is not None:
            self._stop()
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", _BOOT, _ROOT, str(self.deadline), str(self.memory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,
            )
            self.owner, self.served, self.rest = os.getpid(), 0, b""
            try:
                self._line(self.process, START_DEADLINE)
            except (SandboxTimeout, OSError, EOFError) as error:
                self._stop()
                raise SandboxError(f"the worker did not start: {error}") from None
        return self.process

    def _line(self, process: subprocess.Popen[bytes], seconds: float) -> Any:
        """One reply, waited for no longer than `seconds`."""
        assert process.stdout is not None
        end = time.monotonic() + seconds
        while b"\n" not in self.rest:
            left = end - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                raise SandboxTimeout(f"no reply within {seconds:g} s")
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                raise EOFError("closed its pipe")
            self.rest += chunk
        line, _, self.rest = self.rest.partition(b"\n")
        return json.loads(line)

    def _stop(self) -> None:
        process, self.process, self.rest = self.process, None, b""
        if process is None or self.owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # bytes the dead worker never read
                    pipe.close()

    def close(self) -> None:
        """End the worker; a later call starts a new one."""
        with self.lock:
            self._stop()


_shared = Sandbox()
atexit.register(_shared.close)


def shared() -> Sandbox:
    """The sandbox of this process."""
    return _shared


def serialise(node: Node) -> list[Any]:
    """A tree as JSON: [kind, args, value]."""
    value = node.value
    if node.kind == "num":
        value = [value.value.numerator, value.value.denominator]
    return [node.kind, [serialise(a) for a in node.args], value]
