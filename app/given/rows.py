"""Rows that others wrote: from a file (JSON lines, a JSON array, CSV, Parquet), a folder of Parquet files, or a data
set of a hub; each with the place it stands at, for messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import UserError, nearest
from app.policy import file_digest
from app.problems.rows import read_rows

Message = dict[str, str]
ENDINGS = (".jsonl", ".json", ".csv", ".parquet")


@dataclass(frozen=True)
class Row:
    """One row and where it stands, such as `traces.jsonl:3`."""

    place: str
    values: dict[str, Any]

    def fault(self, text: str) -> UserError:
        return UserError(f"{self.place}: {text}")

    def text(self, column: str) -> str:
        """A column that must hold text. Raises UserError."""
        value = self.values.get(column)
        if not isinstance(value, str) or not value.strip():
            if column not in self.values:
                raise self.fault(f"no column {column!r}{nearest(column, self.values)}")
            raise self.fault(f"column {column!r} must be text, found {value!r:.80}")
        return value

    def messages(self, column: str) -> list[Message] | None:
        """A conversational column; None where it holds text. Raises UserError where it holds neither."""
        value = self.values.get(column)
        if not isinstance(value, list):
            return None
        for message in value:
            if not isinstance(message, dict) or not all(isinstance(message.get(k), str) for k in ("role", "content")):
                raise self.fault(f"column {column!r}: every message needs a role and a content, found {message!r:.80}")
        if not value:
            raise self.fault(f"column {column!r} holds no message")
        return [{"role": message["role"], "content": message["content"]} for message in value]


def rows_of(source: str) -> Iterator[Row]:
    """All rows of a file, a folder or a hub's data set (NAME, or NAME:SPLIT for another split than train).

    Raises UserError where there is no such thing, or where a line cannot be read.
    """
    if not _on_disk(source):
        yield from _hub_rows(source)
        return
    for file in files_of(source):
        for place, values in read_rows(str(file)):
            yield Row(place, values)


def files_of(source: str) -> Sequence[Path]:
    """The files behind a path. Raises UserError where it has none."""
    path = Path(source)
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        near = nearest(path.name, [other.name for other in _neighbours(path)]) if not path.is_dir() else ""
        raise UserError(f"{source}: {'no .parquet file in this folder' if path.is_dir() else 'no such file'}{near}")
    return files


def _neighbours(path: Path) -> list[Path]:
    return [p for p in path.parent.iterdir() if p.suffix in ENDINGS] if path.parent.is_dir() else []


def source_digest(source: str) -> Any:
    """What decides the rows: the bytes of files; of a hub's data set its name."""
    return [file_digest(str(file)) for file in files_of(source)] if _on_disk(source) else source


def _on_disk(source: str) -> bool:
    """A name with a slash and no ending may be a hub's; whatever looks like a file is one."""
    return Path(source).exists() or Path(source).suffix in ENDINGS or source.startswith((".", "/"))


def _hub_rows(source: str) -> Iterator[Row]:
    import datasets

    name, _, split = source.partition(":")
    try:
        rows = datasets.load_dataset(name, split=split or "train")
    except (ValueError, OSError, datasets.exceptions.DatasetNotFoundError) as error:
        said = str(error).strip().splitlines()[0]
        raise UserError(f"{source}: neither a file here nor a data set that can be loaded: {said}") from None
    yield from (Row(f"{source} row {number}", dict(row)) for number, row in enumerate(rows))


def one_of(row: Row, names: Iterable[str]) -> str | None:
    """The first of some columns that the row has, None where it has none."""
    return next((name for name in names if row.values.get(name) is not None), None)
