"""Files of traces too large for memory: read in pieces of rows, kept when judged as parts that outlive a stop."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import UserError

PIECE = 10_000  # rows read, judged and kept at once


class Source:
    """Rows of a JSONL file, a Parquet file or a folder of Parquet files, in order. Raises UserError on a bad file."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise UserError(f"--traces {path}: no such file or folder")
        self.path = path
        self.json = not path.is_dir() and path.suffix != ".parquet"
        self.files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        if not self.files:
            raise UserError(f"--traces {path}: no .parquet file in this folder")
        schemas, self.rows = [], 0
        for schema, rows in self._json_schemas() if self.json else map(_footer, self.files):
            schemas.append(schema)
            self.rows += rows
        try:
            self.schema = pa.unify_schemas(schemas or [pa.schema([])], promote_options="permissive")
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise UserError(f"--traces {path}: rows do not agree on the type of a column: {error}") from None

    def pieces(self) -> Iterator[pa.Table]:
        """All rows, PIECE at a time; always the same pieces."""
        if self.json:
            for rows in self._json_rows():
                yield pa.Table.from_pylist(rows, self.schema)
            return
        for file in self.files:
            for batch in pq.ParquetFile(file).iter_batches(PIECE):
                table = pa.Table.from_batches([batch])
                missing = [field for field in self.schema if field.name not in table.column_names]
                for field in missing:
                    table = table.append_column(field, pa.nulls(table.num_rows, field.type))
                yield table.select(self.schema.names).cast(self.schema)

    def identity(self) -> list[list[Any]]:
        """Names, sizes and times of the files: what makes it another source."""
        return [[str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns] for f in self.files]

    def _json_schemas(self) -> Iterator[tuple[pa.Schema, int]]:
        for rows in self._json_rows():
            names = {name: None for row in rows for name in row}
            try:
                yield pa.table({name: [row.get(name) for row in rows] for name in names}).schema, len(rows)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise UserError(f"--traces {self.path}: rows do not agree on the type of a column: {error}") from None

    def _json_rows(self) -> Iterator[list[dict[str, Any]]]:
        rows: list[dict[str, Any]] = []
        with self.path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                rows.append(_row(self.path, number, line))
                if len(rows) == PIECE:
                    yield rows
                    rows = []
        if rows:
            yield rows


def _footer(file: Path) -> tuple[pa.Schema, int]:
    meta = pq.read_metadata(file)
    return meta.schema.to_arrow_schema().remove_metadata(), meta.num_rows


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {number}: not JSON ({error.msg}); every line must be one object") from None
    if not isinstance(row, dict):
        raise UserError(f"{path}, line {number}: a {type(row).__name__}; every line must be one object")
    return row


class Parts:
    """Judged pieces beside the file they will become: OUT.parts/00000.parquet, one a piece; one that exists is done."""

    def __init__(self, out: Path, meaning: dict[str, Any]) -> None:
        """Raises UserError where parts of another grading lie there: `meaning` is what makes them the same."""
        self.out, self.folder = out, out.with_name(out.name + ".parts")
        note = self.folder / "grading.json"
        if note.is_file():
            there = json.loads(note.read_text())
            other = sorted(key for key in there.keys() | meaning.keys() if there.get(key) != meaning.get(key))
            if other:
                raise UserError(
                    f"{self.folder}: left by another grading (other {', '.join(other)}); delete it to start over"
                )
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            _whole(note, lambda path: path.write_text(json.dumps(meaning)))

    def read(self, index: int) -> pa.Table | None:
        """A finished part, None where it is to be done."""
        path = self._path(index)
        return pq.read_table(path) if path.is_file() else None

    def write(self, index: int, table: pa.Table) -> None:
        """Keep a part."""
        _whole(self._path(index), lambda path: pq.write_table(table, path, compression="zstd"))

    def join(self, count: int, schema: pa.Schema) -> None:
        """Make the output of `count` parts, one in memory at a time, and remove them."""
        parts = (pq.read_table(self._path(index)) for index in range(count))
        _whole(self.out, lambda path: _join(parts, schema, path, self.out.suffix == ".parquet"))
        shutil.rmtree(self.folder)

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:05d}.parquet"


def _join(parts: Iterator[pa.Table], schema: pa.Schema, path: Path, parquet: bool) -> None:
    if parquet:
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for table in parts:
                writer.write_table(table)
        return
    with path.open("w", encoding="utf-8") as out:
        for table in parts:
            for row in table.to_pylist():
                out.write(json.dumps(row, ensure_ascii=False) + "\n")


def _whole(path: Path, write: Any) -> None:
    """Write beside the target, then rename: a file under its final name is whole."""
    partial = path.with_name(path.name + ".partial")
    write(partial)
    os.replace(partial, path)
