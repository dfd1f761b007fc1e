"""What every benchmark prints and writes: rows with a value, the peer's value from the same run, and their ratio."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


def machine() -> str:
    """The machine in a few words: processor, cores this process may use, Python."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            name = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), name)
    except FileNotFoundError:
        pass  # not Linux: the architecture's name has to do
    return f"{name}, {cores} cores, Python {platform.python_version()}"


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure. `ratio` is above 1 where we are better than the peer, whichever way the unit points."""

    name: str
    value: float | None  # None: not measured, for the reason in `note`
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None
    machine: str = ""
    note: str = ""


def row(
    name: str,
    value: float,
    unit: str,
    peer: str | None = None,
    peer_value: float | None = None,
    *,
    lower_is_better: bool = False,
) -> Row:
    """A row with its ratio worked out; without a peer, or where a ratio would divide by zero, the ratio is None."""
    ratio = None
    if peer_value is not None:
        top, bottom = (peer_value, value) if lower_is_better else (value, peer_value)
        ratio = top / bottom if bottom else None
    return Row(name, value, unit, peer, peer_value, ratio, machine())


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def render(rows: Sequence[Row]) -> str:
    """The rows as a text table, one line each, with the machine underneath; a column of notes where there are any."""
    head = ["name", "value", "unit", "peer", "peer value", "ratio", "note"]
    body = [
        [r.name, _figure(r.value), r.unit or "-", r.peer or "-", _figure(r.peer_value), _figure(r.ratio), r.note]
        for r in rows
    ]
    if not any(r.note for r in rows):
        head, body = head[:-1], [line[:-1] for line in body]
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [head, *body]
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, f"machine: {rows[0].machine if rows else machine()}"])


def arguments(description: str) -> argparse.ArgumentParser:
    """The options every benchmark has: --quick and --json FILE."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="smaller, ends within about a minute")
    parser.add_argument("--json", type=_file, metavar="FILE", help="also write the rows here")
    return parser


def folder(name: str) -> str:
    """An option's folder, made where it is not there: before anything is measured."""
    if "://" in name:
        raise argparse.ArgumentTypeError(f"{name}: give a folder on a disk, not a URI")
    try:
        os.makedirs(name, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{name}: cannot be made: {error}") from error
    return name


def _file(name: str) -> Path:
    """An option's file, whose folder is made where it is not there."""
    folder(os.path.dirname(name) or ".")
    return Path(name)


def publish(rows: Sequence[Row], json_file: Path | None) -> None:
    """Print the table and, where a file is named, write the rows to it as a JSON list."""
    print(render(rows), flush=True)
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n", encoding="utf-8")
