"""Progress of a long stage on the console: share done, rate, time left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

INTERVAL = 5.0  # seconds between lines
SHOWN = 4  # counts a line; the manifest has them all


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Watcher(Protocol):
    """Hears of the same work, for metrics (app/telemetry.py)."""

    def begin(self, pending: int, unit: str) -> None: ...

    def done(self, pieces: int, counts: dict[str, float]) -> None: ...


class Progress:
    """Lines such as `sampling: 37/125 shards, 12,345 traces (812/s), 1:02 elapsed, about 2:10 left`.

    A new line at most every `interval` seconds, and one at the end; plain lines, so that they read well in a job's log.
    """

    def __init__(
        self,
        name: str,
        out: TextIO | None = None,
        interval: float = INTERVAL,
        now: Callable[[], float] = time.monotonic,
        watcher: Watcher | None = None,
    ) -> None:
        self.name, self.out, self.interval, self.now = name, out or sys.stderr, interval, now
        self.watcher = watcher
        self.total = self.done = self.reused = 0
        self.unit = "shards"
        self.counts: dict[str, float] = {}
        self.start = self.last = now()
        self._lock = threading.Lock()

    def begin(self, total: int, reused: int = 0, unit: str = "shards") -> None:
        """`total` pieces of work, of which `reused` are there from an earlier run."""
        self.total, self.done, self.reused, self.unit = total, reused, reused, unit
        self.start = self.last = self.now()
        if self.watcher:
            self.watcher.begin(total - reused, unit)
        if reused:
            self.say(f"{reused} of {total} {unit} are there already; going on")

    def advance(self, pieces: int = 1, counts: dict[str, float] | None = None) -> None:
        """`pieces` more are done; they counted `counts`."""
        with self._lock:
            if self.watcher:
                self.watcher.done(pieces, counts or {})
            self.done += pieces
            for key, value in (counts or {}).items():
                self.counts[key] = self.counts.get(key, 0) + value
            now = self.now()
            if now - self.last >= self.interval or self.done >= self.total:
                self.last = now
                self.say(self.line(now))

    def snapshot(self) -> dict[str, Any]:
        """The same for programs: pieces done of all, pieces a second of this session, seconds left, counts."""
        with self._lock:
            elapsed, fresh = self.now() - self.start, self.done - self.reused
            rate = fresh / elapsed if fresh > 0 and elapsed > 0 else None
            left = (self.total - self.done) / rate if rate else None
            return {
                "done": self.done,
                "total": self.total,
                "unit": self.unit,
                "reused": self.reused,
                "rate": None if rate is None else round(rate, 6),
                "left_seconds": None if left is None else round(left, 1),
                "counts": dict(self.counts),
            }

    def line(self, now: float) -> str:
        """The current line, without the stage's name."""
        elapsed = now - self.start
        parts = [f"{self.done}/{self.total} {self.unit}"]
        shown = [(key, value) for key, value in self.counts.items() if value >= 1][:SHOWN]
        parts += [
            f"{value:,.0f} {key}" + (f" ({value / elapsed:,.0f}/s)" if elapsed >= 1 else "") for key, value in shown
        ]
        parts.append(f"{clock(elapsed)} elapsed")
        fresh = self.done - self.reused
        if fresh > 0 and self.done < self.total:
            parts.append(f"about {clock(elapsed / fresh * (self.total - self.done))} left")
        return ", ".join(parts)

    def say(self, text: str) -> None:
        """One line of the stage, at once."""
        print(f"{self.name}: {text}", file=self.out, flush=True)
