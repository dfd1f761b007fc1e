"""How busy the engines were over time, from the record that each shard of sampling keeps of the actor that wrote it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import pyarrow as pa

from app.sampling.meter import WINDOW, Meter, Window
from app.store import Output

KIND = "engine"  # of the tables beside the traces
SCHEMA = pa.schema(
    [
        ("engine", pa.string()),  # a name of its own for each start of an engine
        ("begin", pa.float64()),  # of the window, seconds since 1970
        ("busy", pa.float64()),
        ("requests", pa.float64()),
        ("tokens", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Utilisation:
    """All engines of a stage in one window of WINDOW seconds."""

    begin: float  # seconds since 1970
    engines: int  # that had begun and had not yet done their last work
    busy: float  # share of their time with work, 0 to 1
    requests: float  # mean number at once, all engines together
    tokens_per_second: float  # of requests that finished in the window


def record(meter: Meter, engine: str) -> pa.Table:
    """What a meter saw since it was last asked, as a table to write beside a shard."""
    rows = [
        {"engine": engine, "begin": begin, "busy": w.busy, "requests": w.requests, "tokens": w.tokens}
        for begin, w in meter.take_windows()
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def utilisation(output: Output) -> list[Utilisation]:
    """The stage's engines over time, one entry a window from the first to the last with work; empty without records.

    Windows in which nothing ran (between two sessions) are left out.
    """
    found: dict[str, dict[float, Window]] = defaultdict(lambda: defaultdict(Window))
    for table in output.tables(kind=KIND):
        for row in table.to_pylist():
            window = found[row["engine"]][row["begin"]]
            window.busy += row["busy"]
            window.requests += row["requests"]
            window.tokens += row["tokens"]
    lives = [(min(windows), max(windows)) for windows in found.values()]
    begins = sorted({begin for windows in found.values() for begin in windows})
    return [_at(begin, found, sum(first <= begin <= last for first, last in lives)) for begin in begins]


def _at(begin: float, found: dict[str, dict[float, Window]], engines: int) -> Utilisation:
    there = [windows[begin] for windows in found.values() if begin in windows]
    return Utilisation(
        begin=begin,
        engines=engines,
        busy=min(1.0, sum(w.busy for w in there) / (WINDOW * engines)),
        requests=sum(w.requests for w in there) / WINDOW,
        tokens_per_second=sum(w.tokens for w in there) / WINDOW,
    )
