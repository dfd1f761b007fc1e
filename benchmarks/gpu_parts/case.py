"""What a part of benchmarks.gpu consists of. Light: the command imports it too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.table import Row

FAILED, SKIPPED = "failed: ", "skipped: "


@dataclass(frozen=True)
class Setup:
    """What there is, and how far to go."""

    device: str  # cuda or cpu
    machine: str  # for rows
    gpus: int  # that torch sees
    memory: float  # GiB of one GPU; 0 without
    peak: float  # FLOP/s of one device in bf16: a data sheet's on a known GPU, else a matrix product's, measured
    workers: int  # processes of the parts that need several
    quick: bool


@dataclass(frozen=True)
class Case:
    """One thing to find out. `run` gives its rows, or raises Skipped or whatever else goes wrong."""

    name: str
    run: Callable[[], list[Row]]
    seconds: float = 120  # after which it is stopped


class Skipped(Exception):
    """A case that cannot run here; its text says why."""


def absent(name: str, why: str) -> Row:
    """The row of what was not measured."""
    return Row(name, None, "", note=why)
