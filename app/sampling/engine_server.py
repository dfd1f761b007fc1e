"""The engine's own process: steps an engine while it has work, and sends what is finished, once a step.

    python -m app.sampling.engine_server MODULE:FUNCTION ARGUMENTS DESCRIPTOR

FUNCTION(**ARGUMENTS) builds the stepper; the descriptor is this end of a socket pair. A thread reads what is asked, so
that the socket never fills; when the other end (app/sampling/engine_client.py) is gone, this process ends.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, Protocol

from app.errors import UserError

Order = tuple[Any, ...]  # ("add", name, prompt, parameters, adapter), ("abort", name) or ("call", name, method, *args)
Answer = tuple[str, str, Any]  # ("done" | "refused" | "returned" | "raised", name, what)


class Stepper(Protocol):
    """An engine that does nothing between calls of `step`. Other methods may be called by name, between steps."""

    def describe(self) -> dict[str, Any]:
        """What the other end should know of it."""

    def add(self, name: str, prompt: list[int], parameters: dict[str, Any], adapter: str | None) -> None:
        """Take a request. ValueError: it cannot be served; others can."""

    def abort(self, name: str) -> None:
        """Drop a request, where it is still there."""

    def busy(self) -> bool:
        """Whether a step would do anything."""

    def step(self) -> list[tuple[str, Any]]:
        """Names and results of the requests that this step finished."""


def serve(stepper: Stepper, connection: Connection) -> None:
    """Obey orders until the other end closes. Raises what a step raises."""
    orders: SimpleQueue[Order | None] = SimpleQueue()
    threading.Thread(target=_read, args=(connection, orders), daemon=True).start()
    while True:
        answers: list[Answer] = []
        while not orders.empty() or not stepper.busy():
            order = orders.get()
            if order is None:
                return
            answers += _obey(stepper, order)
            if answers and not stepper.busy():
                break
        if stepper.busy():
            answers += [("done", name, result) for name, result in stepper.step()]
        if answers:
            connection.send(answers)


def _read(connection: Connection, orders: SimpleQueue[Order | None]) -> None:
    while True:
        try:
            orders.put(connection.recv())
        except (EOFError, OSError):  # the process that asked is gone; a step that hangs must not outlive it
            orders.put(None)
            threading.Timer(5, os._exit, (1,)).start()
            return


def _obey(stepper: Stepper, order: Order) -> list[Answer]:
    kind, name, *rest = order
    if kind == "abort":
        stepper.abort(name)
    elif kind == "add":
        try:
            stepper.add(name, *rest)
        except ValueError as error:  # this request's own fault
            return [("refused", name, str(error))]
    else:
        method, *arguments = rest
        try:
            return [("returned", name, getattr(stepper, method)(*arguments))]
        except Exception:  # raised again where the call is awaited
            return [("raised", name, traceback.format_exc())]
    return []


def main(target: str, arguments: str, descriptor: str) -> int:
    """Build the stepper, say so, serve. The first message is ("ready", description) or ("user" | "fault", reason),
    "user" for a UserError.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the process that asks; its end ends this one
    connection = Connection(int(descriptor))
    module, _, function = target.partition(":")
    try:
        stepper: Stepper = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    except Exception as error:  # sent to the process that waits for the start
        traceback.print_exc()
        mendable = isinstance(error, UserError)
        connection.send(("user", str(error)) if mendable else ("fault", f"{type(error).__name__}: {error}"))
        return 1
    connection.send(("ready", stepper.describe()))
    try:
        serve(stepper, connection)
    except Exception as error:  # the engine is broken: what is known of it goes first, then the process
        traceback.print_exc()
        connection.send([("dead", "", f"{type(error).__name__}: {error}")])
        return 1
    return 0


if __name__ == "__main__":
    os._exit(main(*sys.argv[1:]))  # not exit(): threads of native libraries need not be waited for
