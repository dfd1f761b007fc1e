"""How long a stage was worked on, and with what: one entry a session, in sessions.json beside the stage's shards.

A stage that was stopped and went on has several sessions. The entry of a running one is written again every few
seconds, so that a kill loses no more of it than that.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from typing import Any

from pyarrow import fs as pafs

from app.cost import Held
from app.store import Output

FILE = "sessions.json"


class Session:
    """The session that runs now."""

    def __init__(self, output: Output, held: Held, now: Callable[[], float] = time.monotonic) -> None:
        self.output, self.held, self.now = output, held, now
        self.earlier = read(output)
        self.started = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        self.begun = now()
        self.seconds: float | None = None  # once it is over

    def entries(self) -> list[dict[str, Any]]:
        """All sessions of the stage, this one up to now, or to its end."""
        seconds = round(self.now() - self.begun, 3) if self.seconds is None else self.seconds
        entry = {"started": self.started, "seconds": seconds, "cpus": self.held.cpus, "gpus": self.held.gpus}
        return [*self.earlier, entry]

    def close(self) -> list[dict[str, Any]]:
        """The session is over; all sessions of the stage."""
        if self.seconds is None:
            self.seconds = round(self.now() - self.begun, 3)
        return self.entries()

    def save(self) -> None:
        """Write them beside the shards."""
        self.output.write_json(FILE, self.entries())


def read(output: Output) -> list[dict[str, Any]]:
    """The sessions of a stage there have been, oldest first."""
    fs, folder = output.open()
    found = fs.get_file_info(f"{folder}/{FILE}").type == pafs.FileType.File
    return output.read_json(FILE) if found else []


def totals(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Of all sessions: their number, wall seconds, and seconds of CPUs and GPUs held. Goes into the manifest."""
    return {
        "sessions": len(entries),
        "seconds": round(sum(e["seconds"] for e in entries), 3),
        "cpu_seconds": round(sum(e["seconds"] * e["cpus"] for e in entries), 3),
        "gpu_seconds": round(sum(e["seconds"] * e["gpus"] for e in entries), 3),
    }
