"""Traces with their verdicts: how a shard of them is read, and which of them came to an end of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from app.records import Trace, Verdict
from app.store import Output

Judged = tuple[Trace, Verdict]


def judged_shard(
    traces: Output, verdicts: Output, shard: int, kind: str = "part", verdict_kind: str = "part"
) -> dict[str, list[Judged]]:
    """Traces of a shard with their verdicts, by problem id in ascending order.

    Raises RuntimeError where a trace has no verdict: the two outputs do not belong together.
    """
    named = {v.trace_id: v for v in Verdict.from_table(verdicts.read_shard(shard, kind=verdict_kind))}
    out: dict[str, list[Judged]] = {}
    for trace in Trace.from_table(traces.read_shard(shard, kind=kind)):
        if trace.id not in named:
            raise RuntimeError(f"{verdicts.uri}, shard {shard}: no verdict of trace {trace.id} of {traces.uri}")
        out.setdefault(trace.problem_id, []).append((trace, named[trace.id]))
    return dict(sorted(out.items()))


def finished(samples: Iterable[Judged], correct: bool) -> list[Judged]:
    """Samples that came to their own end and were judged right (or wrong: no readable answer is a wrong one too)."""
    return [(t, v) for t, v in samples if t.finish_reason == "stop" and v.judged and v.correct == correct]


def distinct(
    samples: Iterable[Judged],
    correct: bool,
    order: Callable[[Trace], Any],
    alike: Callable[[Trace], Any] = lambda trace: tuple(trace.token_ids),
) -> list[Trace]:
    """Finished right or wrong traces in an order, the first of those that are alike: of the same tokens by default."""
    found: dict[Any, Trace] = {}
    for trace in sorted((t for t, _ in finished(samples, correct) if t.token_ids), key=order):
        found.setdefault(alike(trace), trace)
    return list(found.values())
