"""Metrics as JSON lines: written by rank 0, followed by the driver, kept when a run goes on.

metrics.jsonl    one row a step; each step is there once, made by the attempt whose weights the run ended with
restarts.jsonl   one row each time the run went on after an interruption, with what that cost
"""

from __future__ import annotations

import json
import os
from io import TextIOWrapper
from pathlib import Path
from typing import Any


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


def restarts_of(metrics: Path) -> Path:
    """The file of restarts beside a metrics file."""
    return metrics.with_name("restarts.jsonl")


def cut(path: Path, done: int) -> None:
    """Keep the rows up to step `done` only."""
    kept = [row for row in read(path) if row["step"] <= done]
    temporary = path.with_name(f".{path.name}")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
    os.replace(temporary, path)


def read(path: Path) -> list[dict[str, Any]]:
    """All whole rows; a last line that was cut off by a kill is left out."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def totals(metrics: Path) -> dict[str, float]:
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
