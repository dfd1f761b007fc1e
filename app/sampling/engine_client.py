"""An engine in its own process, seen from the event loop that asks it. The other end is app/sampling/engine_server.py.

Why a process: the engine's loop is half Python, so verdicts, texts and files made in the same interpreter would slow it
down. Only whole results cross, so a token costs no message.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from multiprocessing.connection import Connection
from typing import IO, Any

from app.errors import UserError
from app.sampling.engine import EngineDead
from app.sampling.engine_server import Answer

ERROR = re.compile(r"(?:^|\s)((?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b.*)")  # in a line of a traceback or a log


class EngineProcess:
    """Starts `target` (MODULE:FUNCTION) with `arguments` (plain JSON values) and waits until it is ready.

    Args:
        stall: seconds; a process that is asked for something and answers nothing for so long is killed.

    Attributes:
        facts: what the engine says of itself.

    Raises:
        UserError: it cannot serve what it is asked to.
        RuntimeError: it did not start; says why.
    """

    def __init__(self, target: str, arguments: dict[str, Any], environment: dict[str, str], stall: float) -> None:
        self._socket, theirs = socket.socketpair()
        variables = os.environ | environment | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [
            sys.executable,
            "-m",
            "app.sampling.engine_server",
            target,
            json.dumps(arguments),
            str(theirs.fileno()),
        ]
        self._connection = Connection(os.dup(self._socket.fileno()))
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._names = count()  # an id may be asked for twice at once; the engine must tell them apart
        self._loop: asyncio.AbstractEventLoop | None = None
        self._dead = ""  # why nothing can be asked any more
        self._stall, self._watching, self._last_answer = stall, False, 0.0
        self._last_error = ""  # that the process named on its standard error
        self.process = subprocess.Popen(command, env=variables, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)
        theirs.close()
        assert self.process.stderr
        copying = threading.Thread(target=self._copy, args=(self.process.stderr,), name="engine's errors", daemon=True)
        copying.start()
        try:
            kind, said = self._connection.recv()
        except EOFError:
            kind, said = "fault", ""
        if kind != "ready":
            code = self.process.wait()
            copying.join(timeout=2)  # processes that it started may hold the pipe for longer
            said = said or self._last_error or f"its process ended with {code}"
            raise UserError(said) if kind == "user" else RuntimeError(said)
        self.facts: dict[str, Any] = said
        # A thread, not the loop's own watch on the socket: uvloop's makes it non-blocking, and a burst then fails.
        threading.Thread(target=self._listen, name="engine's answers", daemon=True).start()

    async def generate(self, prompt: list[int], parameters: dict[str, Any], adapter: str | None = None) -> Any:
        """The engine's result for one request. Cancelling the awaiting task aborts it there.

        Raises EngineDead, and ValueError where the engine refuses this request alone.
        """
        name = str(next(self._names))
        try:
            return await self._ask(name, "add", prompt, parameters, adapter)
        except asyncio.CancelledError:
            if not self._dead:
                self._send("abort", name)
            raise

    async def call(self, method: str, *arguments: Any) -> Any:
        """A method of the stepper by name, between two steps. RuntimeError with its traceback where it raises."""
        return await self._ask(str(next(self._names)), "call", method, *arguments)

    def close(self) -> None:
        """End the process and wait for it."""
        self._dead = self._dead or "it was closed"
        with suppress(OSError):  # where it is gone already
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    async def _ask(self, name: str, kind: str, *rest: Any) -> Any:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._watching = loop, False
        if self._dead:  # read after the loop is set, as `_listen` reads the loop after it has set this
            raise EngineDead(f"the engine is gone: {self._dead}")
        self._waiting[name] = loop.create_future()
        if not self._watching:
            self._watching, self._last_answer = True, time.monotonic()
            loop.call_later(self._stall / 4, self._look)
        try:
            self._send(kind, name, *rest)
            return await self._waiting[name]
        finally:
            del self._waiting[name]

    def _send(self, kind: str, name: str, *rest: Any) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # the process is gone: `_listen` tells all who wait
            self._connection.send((kind, name, *rest))

    def _copy(self, errors: IO[bytes]) -> None:
        """Pass the process's standard error on to this one's, and keep the last error named there; in a thread."""
        with errors:
            for line in errors:
                os.write(2, line)
                if named := ERROR.search(line.decode(errors="replace").rstrip()):
                    self._last_error = named[1]

    def _listen(self) -> None:
        """Pass on what arrives until the process is gone; in a thread."""
        while True:
            try:
                answers = self._connection.recv()
            except (EOFError, OSError):
                code = self.process.wait()
                self._dead = self._dead or f"its process ended with {code}"
                self._tell(self._fail)
                return
            self._tell(self._take, answers)

    def _tell(self, function: Callable[..., None], *arguments: Any) -> None:
        if self._loop:
            with suppress(RuntimeError):  # a loop that is closed: nobody waits there any more
                self._loop.call_soon_threadsafe(function, *arguments)

    def _take(self, answers: list[Answer]) -> None:
        self._last_answer = time.monotonic()
        for kind, name, what in answers:
            if kind == "dead":
                self._dead = self._dead or what
            future = self._waiting.get(name)
            if future is None or future.done():
                continue
            if kind in ("done", "returned"):
                future.set_result(what)
            else:
                future.set_exception(ValueError(what) if kind == "refused" else RuntimeError(what))

    def _fail(self) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(EngineDead(f"the engine is gone: {self._dead}"))

    def _look(self) -> None:
        """While there is work, see now and then whether any of it gets done; a hanging engine is made a dead one."""
        if not self._waiting:
            self._watching = False
        elif time.monotonic() - self._last_answer < self._stall:
            asyncio.get_running_loop().call_later(self._stall / 4, self._look)
        else:
            self._dead = f"it finished nothing for {self._stall:g} seconds and was killed"
            self.process.kill()
