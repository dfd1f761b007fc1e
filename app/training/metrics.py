"""Metrics as JSON lines: written by rank 0, followed by the driver, kept when a run goes on.

metrics.jsonl    one row a step; each step is there once, made by the attempt whose weights the run ended with
restarts.jsonl   one row each time the run went on after an interruption, with what that cost

Of a run in object storage, which has no appending, both are written on rank 0's node and uploaded with each checkpoint
and model; between, rows reach the driver through `Feed`.
"""

from __future__ import annotations

import json
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Protocol

from app.remote_folder import TextFile, file_of, write_whole
from app.store import Output


class MetricsFile:
    """Rows of an attempt that goes on after step `done`.

    Nothing is changed before its first step is done: an attempt that is killed before leaves no trace, and the next
    one accounts for both. `began` is the time at which the driver of this attempt started: what lies between the end
    of one job and the start of the next is nobody's loss.
    """

    def __init__(self, path: Path, done: int, began: float = 0.0) -> None:
        self.path, self.done, self.began = path, done, began
        self.again = path.is_file()
        path.touch()
        self._file: TextIOWrapper | None = None

    def append(self, row: dict[str, float]) -> None:
        if self._file is None:
            if self.again:
                self._go_on(row)
            self._file = self.path.open("a", buffering=1)
        self._file.write(json.dumps(row) + "\n")

    def publish(self) -> None:
        """Before a checkpoint or a model counts: on a disk the rows are where they belong already."""

    def _go_on(self, row: dict[str, float]) -> None:
        """Drop the rows that are made again, and note what the interruption cost."""
        before = read(self.path)
        redone = [old for old in before if old["step"] > self.done]
        stopped = max([self.began, *(old["time"] for old in before)])
        lost = {
            "step": self.done,
            "redone_steps": len(redone),
            "redone_seconds": sum(old["seconds"] for old in redone),
            "down_seconds": max(0.0, row["time"] - row["seconds"] - stopped),
        }
        with restarts_of(self.path).open("a") as file:
            file.write(json.dumps(lost) + "\n")
        cut(self.path, self.done)


class Feed(Protocol):
    """The rows of a run that its driver knows of; each step once, as the last attempt made it."""

    def add(self, row: dict[str, float]) -> None: ...

    def after(self, step: int) -> list[dict[str, float]]: ...


class Told:
    """Rows in this process; the launcher puts it into an actor on the driver's node."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def add(self, row: dict[str, float]) -> None:
        while self.rows and self.rows[-1]["step"] >= row["step"]:
            self.rows.pop()
        self.rows.append(row)

    def after(self, step: int) -> list[dict[str, float]]:
        return [row for row in self.rows if row["step"] > step]


class StoredMetrics(MetricsFile):
    """The same where the run is in object storage: `stored` and what the driver was told are where it goes on."""

    def __init__(self, path: Path, stored: TextFile, feed: Feed, done: int, began: float = 0.0) -> None:
        self.stored, self.feed = stored, feed
        path.parent.mkdir(parents=True, exist_ok=True)
        for here in (path, restarts_of(path)):  # left by another attempt on this node
            here.unlink(missing_ok=True)
        if stored.exists():
            told = feed.after(0)
            before = [row for row in read(stored) if not told or row["step"] < told[0]["step"]] + told
            write_whole(path, _lines(before))
            write_whole(restarts_of(path), _lines(read(restarts_of(stored))))
        super().__init__(path, done, began)
        self.publish()

    def append(self, row: dict[str, float]) -> None:
        super().append(row)
        self.feed.add(row)

    def publish(self) -> None:
        """Upload both files as they are."""
        for here, there in ((restarts_of(self.path), restarts_of(self.stored)), (self.path, self.stored)):
            if here.is_file():
                write_whole(there, here.read_text())


def metrics_of(output: Output, done: int, began: float, feed: Feed | None) -> MetricsFile:
    """The metrics of a training stage, as rank 0 writes them; `feed` is needed in object storage only."""
    path, stored = output.local("metrics.jsonl"), file_of(output, "metrics.jsonl")
    if isinstance(stored, Path):
        return MetricsFile(stored, done, began)
    return StoredMetrics(path, stored, feed or Told(), done, began)


def restarts_of(metrics: Any) -> Any:
    """The file of restarts beside a metrics file."""
    return metrics.with_name("restarts.jsonl")


def cut(path: TextFile, done: int) -> None:
    """Keep the rows up to step `done` only."""
    write_whole(path, _lines([row for row in read(path) if row["step"] <= done]))


def _lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def read(path: TextFile) -> list[dict[str, Any]]:
    """All whole rows; a last line that was cut off by a kill is left out."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def totals(metrics: TextFile) -> dict[str, float]:
    """What a run did and what interruptions cost it, for the counts of its stage."""
    rows, restarts = read(metrics), read(restarts_of(metrics))
    counts = {
        "examples": sum(row["examples"] for row in rows),
        "tokens": sum(row["tokens"] for row in rows),
        "computed_tokens": sum(row["computed_tokens"] for row in rows),
        "steps": len(rows),
        "seconds": sum(row["seconds"] for row in rows),
    }
    if restarts:
        counts |= {
            "restarts": len(restarts),
            "redone_steps": sum(row["redone_steps"] for row in restarts),
            "lost_seconds": sum(row["redone_seconds"] + row["down_seconds"] for row in restarts),
        }
    return {name: float(value) for name, value in counts.items()}
