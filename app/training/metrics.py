"""Metrics as JSON lines: written by rank 0, followed by the driver, kept when a run goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class MetricsFile:
    """Appends rows of a run that goes on after step `done`."""

    def __init__(self, path: Path, done: int) -> None:
        cut(path, done)
        self._file = path.open("a", buffering=1)

    def append(self, row: dict[str, float]) -> None:
        self._file.write(json.dumps(row) + "\n")


def cut(path: Path, done: int) -> None:
    """Drop the rows after step `done`: the run goes back there and makes them again."""
    kept = [row for row in read(path) if row["step"] <= done]
    temporary = path.with_name(f".{path.name}")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
    os.replace(temporary, path)


def read(path: Path) -> list[dict[str, Any]]:
    """All whole rows; a last line that was cut off by a kill is left out."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
