"""Every GPU path of the tool, checked and measured on whatever is here: one GPU, several, or none.

    python -m benchmarks.gpu [--minutes 8] [--parts equality,start] [--quick] [--json FILE] [--workers N]

Each part runs in a process of its own within its share of the minutes. What fails is a row with its reason and makes
the exit status 1; what cannot run here is a row that says what is missing. On a CPU the same code runs on tiny models,
to show that it works before a GPU is paid for: those figures say nothing about GPUs. docs/gpu.md has more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from importlib.util import find_spec

from benchmarks.gpu_parts import process
from benchmarks.gpu_parts.case import FAILED, SKIPPED, Setup, absent
from benchmarks.table import Row, arguments, publish, render

TRAINING = ("torch", "transformers", "numpy", "pydantic", "pyarrow")


@dataclass(frozen=True)
class Part:
    """A module of benchmarks.gpu_parts."""

    share: float  # of the time that is left for it and those after it, at most
    needs: tuple[str, ...] = TRAINING  # packages without which nothing of it can run


PARTS = {
    "equality": Part(0.2),
    "start": Part(0.2),
    "rates": Part(0.5),
    "crossover": Part(0.4),
    "sharding": Part(0.6),
    "sampling": Part(0.7, ("torch", "transformers", "vllm")),
    "demo": Part(1.0, (*TRAINING, "vllm", "ray", "deepspeed")),
}


def setup_of(workers: int | None, quick: bool) -> Setup:
    """What there is, asked of a process that ends again: this one leaves the GPU alone."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_parts.device"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"torch does not work here:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Setup(**found, workers=workers or max(1, found["gpus"]), quick=quick)


def options_of(argv: list[str] | None) -> argparse.Namespace:
    parser = arguments((__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8, help="for all parts together (8)")
    parser.add_argument("--parts", default=",".join(PARTS), help="which, in which order; all by default")
    parser.add_argument("--workers", type=int, help="processes of what needs several: as many as GPUs by default")
    options = parser.parse_args(argv)
    options.parts = [name for name in options.parts.split(",") if name]
    for name in options.parts:
        if name not in PARTS:
            parser.error(f"--parts: there is no part {name!r}; the parts are {', '.join(PARTS)}")
    if options.minutes <= 0 or (options.workers is not None and options.workers < 1):
        parser.error("--minutes and --workers: give a number above 0")
    return options


def main(argv: list[str] | None = None) -> int:
    """Run the parts; returns the exit status."""
    options = options_of(argv)
    end = time.monotonic() + 60 * options.minutes
    setup = setup_of(options.workers, options.quick)
    print(setup.machine, flush=True)
    rows: list[Row] = []
    for place, name in enumerate(options.parts):
        part, last = PARTS[name], place == len(options.parts) - 1
        print(f"# {name}", flush=True)
        missing = [package for package in part.needs if find_spec(package) is None]
        if missing:
            why = f"{SKIPPED}not installed: {', '.join(missing)}"
            rows.append(replace(absent(name, why), machine=setup.machine))
            say(rows[-1])
            continue
        left = end - time.monotonic()
        rows += process.run(f"benchmarks.gpu_parts.{name}", setup, end - left + left * (1 if last else part.share), say)
    publish(rows, options.json)
    return 1 if any(row.note.startswith(FAILED) for row in rows) else 0


def say(row: Row) -> None:
    """A row as soon as it is there: a session that is cut off has shown what it had."""
    print(render([row]).splitlines()[2], flush=True)


if __name__ == "__main__":
    sys.exit(main())
