"""Judge a file of traces, or judge it again, without sampling: JSONL or Parquet in, the same rows with verdicts out.

    python -m jobs.verify --traces traces.jsonl --out judged.parquet
    python -m jobs.verify --traces old.parquet --out new.parquet --previous-column outcome   # prints what changed

Runs on this machine, or on the cluster that RAY_ADDRESS or `ray job submit` points to.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.verification import fingerprint, judge_batch

CHUNK = 2_000  # rows a batch
COLUMNS = ("outcome", "extracted", "reason", "tier", "seconds")
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
        "--previous-column", help="outcomes of an earlier grading, to print what changed (default: outcome, if there)"
    )
    parser.add_argument("--actors", type=int, default=0, help="Ray actors to judge in; 0: this process alone")
    return parser.parse_args(argv)


def read(path: Path) -> pa.Table:
    """All rows of a JSONL file, a Parquet file or a folder of Parquet files. Raises SystemExit with what is wrong."""
    if not path.exists():
        raise SystemExit(f"--traces {path}: no such file or folder")
    if path.suffix == ".parquet" or path.is_dir():
        return pq.read_table(path)
    rows = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise SystemExit(
                    f"{path}, line {number}: not JSON ({error.msg}); every line must be one object"
                ) from None
            if not isinstance(rows[-1], dict):
                raise SystemExit(f"{path}, line {number}: a {type(rows[-1]).__name__}; every line must be one object")
    names = {name: None for row in rows for name in row}
    return pa.table({name: [row.get(name) for row in rows] for name in names})


def check(table: pa.Table, options: argparse.Namespace) -> None:
    """Raise SystemExit where a named column is missing."""
    for flag in ("reference_column", "text_column", "question_column", "previous_column"):
        name = getattr(options, flag)
        if name is not None and name not in table.column_names:
            raise SystemExit(
                f"{options.traces}: no column {name!r} (--{flag.replace('_', '-')}); "
                f"it has {', '.join(table.column_names)}"
            )
    if options.out.suffix not in (".jsonl", ".parquet"):
        raise SystemExit(f"--out {options.out}: name a .jsonl or .parquet file")


def judged(batch: dict[str, list[Any]], reference: str, text: str, question: str | None) -> dict[str, list[Any]]:
    """The verdict columns of a batch of rows."""
    verdicts = judge_batch(batch[reference], batch[text], batch[question] if question else None)
    return {name: [getattr(v, name) for v in verdicts] for name in COLUMNS}


def locally(table: pa.Table, options: argparse.Namespace) -> Iterator[dict[str, list[Any]]]:
    for start in range(0, table.num_rows, CHUNK):
        yield judged(
            table.slice(start, CHUNK).to_pydict(),
            options.reference_column,
            options.text_column,
            options.question_column,
        )


class Judge:
    """A Ray actor that judges batches; it keeps its caches and its sandbox worker between them."""

    def judge(self, table: pa.Table, reference: str, text: str, question: str | None) -> dict[str, list[Any]]:
        return judged(table.to_pydict(), reference, text, question)


def on_ray(table: pa.Table, options: argparse.Namespace) -> Iterator[dict[str, list[Any]]]:
    """Batches judged by a pool of actors, in order, a bounded number in flight."""
    import ray

    started_here = not ray.is_initialized()
    if started_here:
        # An address in the environment (as `ray job submit` sets it) is followed; otherwise a Ray of our own.
        ray.init(address="auto") if os.environ.get("RAY_ADDRESS") else ray.init(
            num_cpus=options.actors, include_dashboard=False
        )
    columns = [c for c in (options.reference_column, options.text_column, options.question_column) if c]
    narrow = table.select(columns)
    actor = ray.remote(num_cpus=1, max_restarts=3, max_task_retries=3)(Judge)
    pool = [actor.remote() for _ in range(options.actors)]
    try:
        starts = list(range(0, table.num_rows, CHUNK))
        pending: list[Any] = []
        for i, start in enumerate(starts):
            worker = pool[i % len(pool)]
            piece = pa.Table.from_batches(narrow.slice(start, CHUNK).combine_chunks().to_batches(), narrow.schema)
            pending.append(
                worker.judge.remote(piece, options.reference_column, options.text_column, options.question_column)
            )
            if len(pending) > 4 * len(pool):
                yield ray.get(pending.pop(0))
        while pending:
            yield ray.get(pending.pop(0))
    finally:
        for worker in pool:
            ray.kill(worker)
        if started_here:
            ray.shutdown()


def write(table: pa.Table, path: Path) -> None:
    """Write beside the target, then rename: a file under its final name is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    if path.suffix == ".parquet":
        pq.write_table(table, partial)
    else:
        with partial.open("w", encoding="utf-8") as out:
            for row in table.to_pylist():
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
    os.replace(partial, path)


def changes(before: list[Any], after: list[str], extracted: list[str | None]) -> str:
    """What a second grading changed, as text: counts by kind of change, and the first rows."""
    moved = [(i, old, new) for i, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    counts = Counter(f"{old} -> {new}" for _, old, new in moved)
    lines = [f"changed: {len(moved)} of {len(after)}", *(f"  {kind}: {n}" for kind, n in counts.most_common())]
    lines += [f"  row {i}: {old} -> {new} (answer {extracted[i]!r:.80})" for i, old, new in moved[:_SHOWN]]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    table = read(options.traces)
    check(table, options)
    results: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    started = last = perf_counter()
    for batch in on_ray(table, options) if options.actors else locally(table, options):
        for name, values in batch.items():
            results[name] += values
        if perf_counter() - last > 5:
            last = perf_counter()
            done = len(results["outcome"])
            print(
                f"{done:,} of {table.num_rows:,} traces, {done / (last - started):,.0f} a second",
                file=sys.stderr,
                flush=True,
            )
    seconds = perf_counter() - started
    counts = Counter(results["outcome"])
    print(
        f"{fingerprint()}: {table.num_rows:,} traces in {seconds:.1f} s",
        *(f"{k} {v:,}" for k, v in counts.most_common()),
        sep="\n  ",
    )
    previous = options.previous_column or ("outcome" if "outcome" in table.column_names else None)
    if previous:
        print(changes(table[previous].to_pylist(), results["outcome"], results["extracted"]))
    kept = table.drop_columns([c for c in COLUMNS if c in table.column_names])
    types = {"seconds": pa.float64()}
    for name, values in results.items():
        kept = kept.append_column(name, pa.array(values, types.get(name, pa.string())))
    write(kept, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
