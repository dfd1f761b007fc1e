"""Judge a file of traces, or judge it again, without sampling: JSONL or Parquet in, the same rows with verdicts out.

    python -m jobs.verify --traces traces.jsonl --out judged.parquet
    python -m jobs.verify --traces old.parquet --out new.parquet --previous-column outcome   # prints what changed

Runs on this machine, or on the cluster that RAY_ADDRESS or `ray job submit` points to. Reads, judges and keeps a piece
of the rows at a time (OUT.parts/): memory does not grow with the file, and the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

from app.entry import begin
from app.errors import UserError, one_clear_error

if __name__ == "__main__":
    begin()

import pyarrow as pa

from app.records import Problem
from app.verification.settings import BUILT_IN, VerificationSettings
from app.verification.verifier import Verifier, verifier_of
from app.verification.verifier import verdicts as verdicts_of
from jobs.trace_files import PIECE, Parts, Source

COLUMNS = ("outcome", "extracted", "reason", "tier", "seconds")
FIELDS = [pa.field(name, pa.float64() if name == "seconds" else pa.string()) for name in COLUMNS]
Verdicts = dict[str, list[Any]]  # by column, in the order of the rows
TOLD = ("unfinished", "bad-reference", "bad-finish-reason")  # reasons that are counted for the reader
_SHOWN = 10  # changed rows printed


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Judge the final answers of traces.")
    parser.add_argument(
        "--traces", type=Path, required=True, help="JSONL or Parquet file, or a folder of Parquet files"
    )
    parser.add_argument("--out", type=Path, required=True, help="file to write, .jsonl or .parquet")
    parser.add_argument("--reference-column", default="reference")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--question-column", help="problem statements, where there are any")
    parser.add_argument(
        "--finish-column", help="stop, length or abort: how traces ended (default: finish_reason, if there)"
    )
    parser.add_argument(
        "--previous-column", help="outcomes of an earlier grading, to print what changed (default: outcome, if there)"
    )
    parser.add_argument(
        "--verifier", default=BUILT_IN, metavar="NAME", help="built-in, math-verify, or module:Class of your own"
    )
    parser.add_argument("--actors", type=int, default=0, help="Ray actors to judge in; 0: this process alone")
    return parser.parse_args(argv)


def check(source: Source, options: argparse.Namespace) -> None:
    """Raise UserError where a named column is missing."""
    for flag in ("reference_column", "text_column", "question_column", "finish_column", "previous_column"):
        name = getattr(options, flag)
        if name is not None and name not in source.schema.names:
            raise UserError(
                f"{options.traces}: no column {name!r} (--{flag.replace('_', '-')}); "
                f"it has {', '.join(source.schema.names)}"
            )
    if options.out.suffix not in (".jsonl", ".parquet"):
        raise UserError(f"--out {options.out}: name a .jsonl or .parquet file")


def judged(
    batch: Verdicts, verifier: Verifier, reference: str, text: str, question: str | None, finish: str | None
) -> Verdicts:
    """The verdict columns of a batch of rows."""
    rows = len(batch[text])
    statements, endings = (batch[name] if name else [None] * rows for name in (question, finish))
    answers = zip(statements, batch[reference], strict=True)
    problems = [Problem(f"row-{n}", said or "", answer, "test", "file") for n, (said, answer) in enumerate(answers)]
    found = asyncio.run(verdicts_of(verifier, problems, batch[text], endings))
    return {name: [getattr(v, name) for v in found] for name in COLUMNS}


def chosen(options: argparse.Namespace) -> Verifier:
    """The verifier that --verifier names."""
    return verifier_of(VerificationSettings(verifier=options.verifier))


Piece = tuple[int, int, pa.Table]  # its number, the number of its first row, its rows


def locally(pieces: Iterator[Piece], options: argparse.Namespace) -> Iterator[tuple[Piece, Verdicts]]:
    """Each piece and its verdicts, judged in this process."""
    verifier = chosen(options)
    for piece in pieces:
        yield piece, judged(piece[2].select(columns(options)).to_pydict(), verifier, *named(options))


class Judge:
    """A Ray actor that judges batches; it keeps its caches and its sandbox worker between them."""

    def __init__(self, verifier: str) -> None:
        self.verifier = verifier_of(VerificationSettings(verifier=verifier))

    def judge(self, table: pa.Table, *names: str | None) -> Verdicts:
        return judged(table.to_pydict(), self.verifier, *names)  # type: ignore[arg-type]


def pool(actors: int, verifier: str) -> list[Any]:
    """Handles of that many judging actors, on the Ray that is connected."""
    import ray

    actor = ray.remote(num_cpus=1, max_restarts=3, max_task_retries=3)(Judge)
    return [actor.remote(verifier) for _ in range(actors)]


def on_ray(pieces: Iterator[Piece], options: argparse.Namespace) -> Iterator[tuple[Piece, Verdicts]]:
    """The same by a pool of actors, in order, two pieces in flight an actor; the loss of one costs its pieces' time."""
    from app.cluster import ray_session

    with ray_session(cpus=options.actors):
        import ray

        actors = pool(options.actors, options.verifier)
        pending: deque[tuple[Piece, Any]] = deque()
        try:
            for turn, piece in enumerate(pieces):
                table = piece[2].select(columns(options))
                pending.append((piece, actors[turn % len(actors)].judge.remote(table, *named(options))))
                if len(pending) > 2 * len(actors):
                    first, reference = pending.popleft()
                    yield first, ray.get(reference)
            while pending:
                first, reference = pending.popleft()
                yield first, ray.get(reference)
        finally:
            for worker in actors:
                ray.kill(worker)


def named(options: argparse.Namespace) -> tuple[str, str, str | None, str | None]:
    """Columns of reference, text, question and finish reason."""
    return options.reference_column, options.text_column, options.question_column, options.finish_column


def columns(options: argparse.Namespace) -> list[str]:
    """What judging reads."""
    return list(dict.fromkeys(name for name in named(options) if name))


def with_verdicts(table: pa.Table, verdicts: Verdicts) -> pa.Table:
    """The rows with their verdict columns; those of an earlier grading are replaced."""
    kept = table.drop_columns([name for name in COLUMNS if name in table.column_names])
    for field in FIELDS:
        kept = kept.append_column(field, pa.array(verdicts[field.name], field.type))
    return kept


class Tally:
    """Counts over all rows: outcomes, and what changed from an earlier grading."""

    def __init__(self, previous: str | None) -> None:
        self.previous, self.rows, self.reused = previous, 0, 0
        self.outcomes: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()  # of outcomes that have no answer or no reference to compare
        self.moved: Counter[str] = Counter()
        self.shown: list[str] = []

    def add(self, first: int, before: pa.Table, after: pa.Table) -> None:
        """One more piece, which begins at row `first`: its rows as they came, and with their verdicts."""
        outcomes = after["outcome"].to_pylist()
        self.outcomes.update(outcomes)
        self.reasons.update(reason for reason in after["reason"].to_pylist() if reason in TOLD)
        if self.previous:
            rows = zip(before[self.previous].to_pylist(), outcomes, after["extracted"].to_pylist(), strict=True)
            for number, (old, new, extracted) in enumerate(rows, first):
                if old != new:
                    self.moved[f"{old} -> {new}"] += 1
                    if len(self.shown) < _SHOWN:
                        self.shown.append(f"  row {number}: {old} -> {new} (answer {extracted!r:.80})")
        self.rows += len(outcomes)

    def changes(self) -> str:
        """What a second grading changed, as text: counts by kind of change, and the first rows."""
        lines = [f"changed: {self.moved.total()} of {self.rows}"]
        lines += [f"  {kind}: {count}" for kind, count in self.moved.most_common()]
        return "\n".join(lines + self.shown)


@one_clear_error
def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    source = Source(options.traces)
    check(source, options)
    if options.finish_column is None and "finish_reason" in source.schema.names:
        options.finish_column = "finish_reason"
    previous = options.previous_column or ("outcome" if "outcome" in source.schema.names else None)
    fingerprint = chosen(options).fingerprint()
    meaning = {"verifier": fingerprint, "columns": list(named(options)), "traces": source.identity(), "piece": PIECE}
    parts, tally = Parts(options.out, meaning), Tally(previous)
    started = perf_counter()
    count = grade(source, parts, tally, options)
    parts.join(count, with_verdicts(source.schema.empty_table(), {name: [] for name in COLUMNS}).schema)
    print(
        f"{fingerprint}: {tally.rows:,} traces in {perf_counter() - started:.1f} s"
        + (f", {tally.reused:,} of them judged before a stop" if tally.reused else ""),
        *(f"{k} {v:,}" for k, v in tally.outcomes.most_common()),
        *(f"of these {k} {v:,}" for k, v in tally.reasons.most_common()),
        sep="\n  ",
    )
    if previous:
        print(tally.changes())
    return 0


def grade(source: Source, parts: Parts, tally: Tally, options: argparse.Namespace) -> int:
    """Judge every piece that has no part yet; returns the number of pieces."""
    count = 0

    def to_do() -> Iterator[Piece]:
        nonlocal count
        first = 0
        for count, table in enumerate(source.pieces(), 1):
            part = parts.read(count - 1)
            if part is None:
                yield count - 1, first, table
            else:
                tally.add(first, table, part)
                tally.reused += table.num_rows
            first += table.num_rows

    started = last = perf_counter()
    for (index, first, table), verdicts in (on_ray if options.actors else locally)(to_do(), options):
        part = with_verdicts(table, verdicts)
        parts.write(index, part)
        tally.add(first, table, part)
        if perf_counter() - last > 5:
            last = perf_counter()
            rate = (tally.rows - tally.reused) / (last - started)
            print(f"{tally.rows:,} of {source.rows:,} traces, {rate:,.0f} a second", file=sys.stderr, flush=True)
    return count


if __name__ == "__main__":
    sys.exit(main())
