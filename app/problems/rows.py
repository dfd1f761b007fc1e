"""Rows of files, each with the place it stands at, such as `train.jsonl:3`, and what becomes of those with a fault."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import UserError

Located = tuple[str, dict[str, Any]]
TOLD = 3  # faults of skipped rows that are told in words
FORMATS = "JSON lines, a JSON array (.json), CSV (.csv) or Parquet (.parquet)"


class BadRows:
    """Takes the fault of each bad row: raises it or, where they are to be skipped, counts it and keeps the first."""

    def __init__(self, skip: bool) -> None:
        self.skip, self.count = skip, 0
        self.first: list[str] = []

    def __call__(self, fault: UserError) -> None:
        if not self.skip:
            raise fault
        self.count += 1
        if len(self.first) < TOLD:
            self.first.append(str(fault))


def read_rows(path: str, bad: Callable[[UserError], None] | None = None) -> Iterator[Located]:
    """(place, row) of a file; its ending says which of FORMATS it has, and without one it has JSON lines.

    Args:
        bad: takes the fault of a line that cannot be read, which is then left out; None: it is raised.

    Raises UserError where the file as a whole cannot be read.
    """
    bad = bad or BadRows(skip=False)
    try:
        if path.endswith(".parquet"):
            yield from _parquet(path)
        elif path.endswith(".csv"):
            yield from _csv(path, bad)
        elif path.endswith(".json") and _is_array(path):
            yield from _array(path, bad)
        else:
            yield from _lines(path, bad)
    except (pa.ArrowInvalid, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read: {error}; give {FORMATS}") from None


def _lines(path: str, bad: Callable[[UserError], None]) -> Iterator[Located]:
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                bad(UserError(f"{path}:{number}: not valid JSON: {error}. Mend or remove this line"))
                continue
            if isinstance(row, dict):
                yield f"{path}:{number}", row
            else:
                bad(UserError(f"{path}:{number}: expected an object with fields, found {type(row).__name__}"))


def _is_array(path: str) -> bool:
    with open(path, encoding="utf-8-sig") as file:
        return next((line.lstrip()[0] for line in file if line.strip()), "") == "["


def _array(path: str, bad: Callable[[UserError], None]) -> Iterator[Located]:
    with open(path, encoding="utf-8-sig") as file:
        try:
            rows = json.load(file)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{error.lineno}: not valid JSON: {error.msg}. Mend the file") from None
    for number, row in enumerate(rows):
        if isinstance(row, dict):
            yield f"{path}: row {number}", row
        else:
            bad(UserError(f"{path}: row {number}: expected an object with fields, found {type(row).__name__}"))


def _csv(path: str, bad: Callable[[UserError], None]) -> Iterator[Located]:
    """Rows by the names in the first line; a place is the line a row ends at."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        names = next(reader, [])
        for cells in reader:
            place = f"{path}:{reader.line_num}"
            if len(cells) == len(names):
                yield place, dict(zip(names, cells, strict=True))
            elif cells:
                bad(UserError(f"{place}: {len(cells)} cells, but the first line names {len(names)} columns"))


def _parquet(path: str) -> Iterator[Located]:
    number = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                yield f"{path}: row {number}", row
                number += 1
