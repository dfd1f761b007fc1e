"""The body of a sandbox worker: limits first, then one request a line until its parent closes the pipe or is gone."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import time

GRACE = 2.0  # seconds beyond a deadline after which the kernel ends a worker whose parent did not


def main(deadline: float, memory: int) -> None:
    """Serve requests. `deadline` in seconds a request, `memory` in bytes beyond what the imports take."""
    _die_with(os.getppid())
    from app.verification import symbolic  # before the limits: importing opens files

    _limit(memory)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        # The default action of SIGALRM ends the process even inside one long operation of C code.
        signal.setitimer(signal.ITIMER_REAL, deadline + GRACE)
        print(json.dumps(_answer(json.loads(line), symbolic)), flush=True)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(request: dict[str, object], symbolic: object) -> dict[str, object]:
    try:
        return {"value": getattr(symbolic, str(request["call"]))(*request["args"])}  # type: ignore[misc]
    except MemoryError:
        os._exit(9)  # what is left of the heap cannot be trusted
    except Exception as error:  # whatever sympy raises is the expression's fault and ends this request only
        return {"error": f"{type(error).__name__}: {error}"[:200]}


def _limit(memory: int) -> None:
    """No files, no processes, no core dumps, bounded memory."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    for what, limit in (
        (resource.RLIMIT_AS, used + memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(what, (limit, limit))


def _die_with(parent: int) -> None:
    """End this process soon after its parent, however the parent ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
