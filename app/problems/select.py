"""Problems of one split in the one order every stage uses, read a piece at a time."""

from __future__ import annotations

import heapq
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.errors import UserError
from app.records import Problem
from app.store import Output

ROWS = 1024  # problems a row group: what a worker reads at once
SORTED = 100_000  # problems sorted in memory; more are sorted in files
MERGED = 256  # problems held of each of these files


def write_problems(output: Output, problems: Iterable[Problem], counts: dict[str, float]) -> None:
    """Shard 0 of a stage that makes problems: split by split, in order of id; a row group holds one split.

    Takes the problems one at a time: what it holds does not grow with their number.
    """
    with tempfile.TemporaryDirectory() as folder:
        ordered = in_order(problems, Path(folder))
        groups = (group for _, split in groupby(ordered, lambda p: p.split) for group in batches(split, ROWS))
        first = next(groups, [])
        output.write_shard(0, map(Problem.table, chain([first], groups)), counts)


def in_order(problems: Iterable[Problem], folder: Path) -> Iterator[Problem]:
    """Problems by split and id. Writes those that are more than SORTED into a folder, sorted piece by piece."""
    pieces = batches(problems, SORTED)
    run, files = sorted(next(pieces, []), key=_place), list[Path]()
    for piece in pieces:
        files.append(folder / f"{len(files)}.parquet")
        pq.write_table(Problem.table(run), files[-1], row_group_size=MERGED)
        run = sorted(piece, key=_place)
    return heapq.merge(run, *map(_read_run, files), key=_place)


def batches(problems: Iterable[Problem], size: int) -> Iterator[list[Problem]]:
    """The same problems, at most `size` at a time; none is empty."""
    source = iter(problems)
    while batch := list(islice(source, size)):
        yield batch


def _place(problem: Problem) -> tuple[str, str]:
    return problem.split, problem.id


def _read_run(path: Path) -> Iterator[Problem]:
    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            yield from Problem.from_table(file.read_row_group(number))


def problems_of(output: Output, split: str) -> list[Problem]:
    """All problems of a split, ordered by id. Raises UserError where there are none."""
    problems = Problems(output, split)
    return problems.slice(0, len(problems))


@dataclass(frozen=True)
class _Group:
    """A row group's problems of the split."""

    number: int  # in the file
    first: int  # its first problem's place in the split
    rows: int
    low: str  # its smallest and its largest id
    high: str


class Problems:
    """Problems of a split: those of a shard, or those with given ids. Holds one row group at a time.

    Raises UserError where the split is empty, RuntimeError where the row groups are not in order of id. A file that
    `write_problems` did not write may be one row group in any order.
    """

    def __init__(self, output: Output, split: str) -> None:
        self.output, self.split = output, split
        fs, _ = output.open()
        self.file = pq.ParquetFile(output.shard_path(0), filesystem=fs)
        self.groups: list[_Group] = []
        self._number, self._table = -1, pa.table({})
        for number in range(self.file.num_row_groups):
            self._add(number)
        if not self.groups:
            raise UserError(f"{output.uri}: no {split} problems there; raise problems.{split} in the recipe")

    def __len__(self) -> int:
        return self.groups[-1].first + self.groups[-1].rows

    def shards(self, size: int) -> int:
        """How many shards of `size` problems there are."""
        return -(-len(self) // size)

    def slice(self, start: int, stop: int) -> list[Problem]:
        """Problems [start, stop) of the split, in order of id; fewer at its end."""
        found: list[Problem] = []
        for group in self.groups:
            low, high = max(start - group.first, 0), min(stop - group.first, group.rows)
            if low < high:
                found += Problem.from_table(self._read(group.number).slice(low, high - low))
        return found

    def shard(self, index: int, size: int) -> list[Problem]:
        """Shard `index` of `size` problems each."""
        return self.slice(index * size, (index + 1) * size)

    def named(self, ids: Iterable[str]) -> dict[str, Problem]:
        """Problems by id, those asked for. Raises KeyError where one is not there."""
        lows = [group.low for group in self.groups]
        wanted: dict[int, list[str]] = {}
        for name in sorted(set(ids)):
            wanted.setdefault(max(bisect_right(lows, name) - 1, 0), []).append(name)
        found: dict[str, Problem] = {}
        for place, names in wanted.items():
            table = self._read(self.groups[place].number)
            rows = table.filter(pc.is_in(table["id"], value_set=pa.array(names, pa.string())))
            found |= {problem.id: problem for problem in Problem.from_table(rows)}
            if missing := set(names) - found.keys():
                raise KeyError(f"{self.output.uri}: no {self.split} problem {min(missing)!r} there")
        return found

    def _add(self, number: int) -> None:
        """Take a row group into the index, from the footer where that says enough."""
        ids, splits = (self._range(number, column) for column in ("id", "split"))
        if not splits[0] <= self.split <= splits[1]:
            return
        pure = splits == (self.split, self.split)
        rows = self.file.metadata.row_group(number).num_rows if pure else self._read(number).num_rows
        if not rows:
            return
        last = self.groups[-1] if self.groups else None
        if last and last.high >= ids[0]:
            raise RuntimeError(f"{self.output.uri}: problems are not in order of id; remove the folder and run again")
        self.groups.append(_Group(number, last.first + last.rows if last else 0, rows, *ids))

    def _range(self, number: int, column: str) -> tuple[str, str]:
        """Smallest and largest value of a column in a row group."""
        place = Problem.schema.get_field_index(column)
        found = self.file.metadata.row_group(number).column(place).statistics
        return (found.min, found.max) if found and found.has_min_max else ("", "\U0010ffff")

    def _read(self, number: int) -> pa.Table:
        """A row group's problems of the split, in order of id."""
        if number != self._number:
            table = self.file.read_row_group(number)
            self._number, self._table = number, table.filter(pc.equal(table["split"], self.split)).sort_by("id")
        return self._table
