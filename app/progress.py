"""Progress of a long stage on the console: share done, rate, time left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

INTERVAL = 5.0  # seconds between lines
WORTH, PIECES = 2.0, 2  # seconds and pieces after the first ones before a rate says anything
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
    Rates and the time left count from the first pieces on: what came before them was the start of engines and workers,
    and from that alone nobody can tell how long the rest will take.
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
        self._first: tuple[float, int, dict[str, float]] | None = None  # when, pieces and counts of the first advance
        self._lock = threading.Lock()

    def begin(self, total: int, reused: int = 0, unit: str = "shards") -> None:
        """`total` pieces of work, of which `reused` are there from an earlier run."""
        self.total, self.done, self.reused, self.unit = total, reused, reused, unit
        self.start = self.last = self.now()
        self._first = None
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
            self._first = self._first or (now, self.done, dict(self.counts))
            if now - self.last >= self.interval or self.done >= self.total:
                self.last = now
                self.say(self.line(now))

    def snapshot(self) -> dict[str, Any]:
        """The same for programs: pieces done of all, pieces a second of this session, seconds left, counts."""
        with self._lock:
            rate = self._rate(self.now())
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

    def _rate(self, now: float) -> float | None:
        """Pieces a second since the first ones; None before WORTH seconds and pieces tell."""
        if self._first is None or now - self._first[0] < WORTH or self.done - self._first[1] < PIECES:
            return None
        return (self.done - self._first[1]) / (now - self._first[0])

    def line(self, now: float) -> str:
        """The current line, without the stage's name."""
        parts, rate = [f"{self.done}/{self.total} {self.unit}"], self._rate(now)
        for key, value in [(key, value) for key, value in self.counts.items() if value >= 1][:SHOWN]:
            parts.append(f"{value:,.0f} {key}" + (self._speed(key, value, now) if rate else ""))
        parts.append(f"{clock(now - self.start)} elapsed")
        if rate and self.done < self.total:
            parts.append(f"about {clock((self.total - self.done) / rate)} left")
        return ", ".join(parts)

    def _speed(self, key: str, value: float, now: float) -> str:
        assert self._first
        since, _, counts = self._first
        return f" ({(value - counts.get(key, 0)) / (now - since):,.0f}/s)"

    def say(self, text: str) -> None:
        """One line of the stage, at once."""
        print(f"{self.name}: {text}", file=self.out, flush=True)
