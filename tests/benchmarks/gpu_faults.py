"""A part of benchmarks.gpu whose cases go wrong in every way there is."""

from __future__ import annotations

import os
import signal
import sys
import time

from benchmarks.gpu_parts.case import Case, Setup, Skipped
from benchmarks.table import Row, row


def right() -> list[Row]:
    return [row("right", 2.0, "x", "peer", 1.0)]


def wrong() -> list[Row]:
    raise RuntimeError("the card is on fire\nput it out")


def missing() -> list[Row]:
    raise Skipped("there is no second GPU")


def killed() -> list[Row]:
    print("allocating", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def hanging() -> list[Row]:
    time.sleep(600)
    return []


def cases(setup: Setup) -> list[Case]:
    runs = [right, wrong, missing, killed, hanging, right]
    return [Case(f"{run.__name__} {place}", run, 0.5 if run is hanging else 60) for place, run in enumerate(runs)]
