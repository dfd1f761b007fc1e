"""Traces and verdicts are joined in one way, and sorted out in one way, for credit and data sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.credit.problem import distinct_traces
from app.judged import distinct, judged_shard
from app.records import Trace, Verdict
from app.store import Output
from app.tokens import common
from tests.credit.bernoulli import trace, verdict


def test_a_shard_is_joined_by_problem_and_a_missing_verdict_is_named(tmp_path: Path) -> None:
    traces, verdicts = (Output(str(tmp_path), name, "k") for name in ("sampling", "verification"))
    rows = [replace(trace(f"#### {n}", n), problem_id=f"p-{(n + 1) % 2}") for n in range(4)]
    traces.write_shard(0, Trace.table(rows))
    traces.write_shard(1, Trace.table(rows))
    verdicts.write_shard(0, Verdict.table(verdict(row, "correct") for row in reversed(rows)))
    verdicts.write_shard(1, Verdict.table(verdict(row, "correct") for row in rows[1:]))
    found = judged_shard(traces, verdicts, 0)
    assert {name: [t.id for t, _ in pairs] for name, pairs in found.items()} == {
        "p-0": ["t-1", "t-3"],
        "p-1": ["t-0", "t-2"],
    }
    assert list(found) == ["p-0", "p-1"] and all(t.id == v.trace_id for pairs in found.values() for t, v in pairs)
    with pytest.raises(RuntimeError, match="shard 1: no verdict of trace t-0"):
        judged_shard(traces, verdicts, 1)


def test_cut_undecided_empty_and_repeated_traces_are_left_out() -> None:
    made = [
        (trace("a", 3), "incorrect"),
        (trace("a", 1), "incorrect"),
        (trace("b", 0, finish="length"), "unparsed"),
        (trace("c", 4), "timeout"),
        (trace("", 5, end=False), "unparsed"),
        (trace("d", 6), "unparsed"),
        (trace("e", 2), "correct"),
    ]
    samples = [(one, verdict(one, outcome)) for one, outcome in made]
    assert [t.id for t in distinct(samples, False, lambda t: t.sample)] == ["t-1", "t-6"]
    assert [t.id for t in distinct(samples, False, lambda t: -t.sample)] == ["t-6", "t-3"]
    assert [t.id for t in distinct(samples, False, lambda t: t.sample, alike=lambda t: "all")] == ["t-1"]
    assert [t.id for t in distinct_traces(samples, True, 5)] == ["t-2"]


def test_common_beginnings() -> None:
    assert (common([1, 2, 3], [1, 2, 4]), common([1], [1, 2]), common([], [1]), common([2], [1])) == (2, 1, 0, 0)
