"""From traces and verdicts to a summary."""

from __future__ import annotations

import pyarrow as pa
import pytest

from app.evaluation.answers import Answers, read, summary
from app.verification import equivalent


def shard(rows: list[tuple[str, str, int, str, str | None]]) -> tuple[pa.Table, pa.Table]:
    """(trace, problem, sample, outcome, extracted)"""
    traces = pa.table({"id": [r[0] for r in rows], "problem_id": [r[1] for r in rows], "sample": [r[2] for r in rows]})
    verdicts = pa.table(
        {
            "trace_id": [r[0] for r in rows],
            "outcome": [r[3] for r in rows],
            "extracted": pa.array([r[4] for r in rows], pa.string()),
        }
    )
    return traces, verdicts.take(list(range(len(rows)))[::-1])  # joined by id, not by place


ROWS = [
    ("a0", "a", 0, "correct", "1"),
    ("a1", "a", 1, "incorrect", "0.5"),
    ("a2", "a", 2, "incorrect", r"\frac{1}{2}"),
    ("a3", "a", 3, "correct", "1"),
    ("b0", "b", 0, "unparsed", None),
    ("b1", "b", 1, "correct", "1"),
    ("b2", "b", 2, "correct", "1.0"),
    ("b3", "b", 3, "timeout", None),
]


def test_read_keeps_greedy_apart_from_drawn() -> None:
    answers = read([shard(ROWS[:4]), shard(ROWS[4:])])
    assert answers.greedy == {"a": "correct", "b": "unparsed"}
    assert answers.drawn["a"] == [("incorrect", "0.5"), ("incorrect", r"\frac{1}{2}"), ("correct", "1")]
    assert [o for o, _ in answers.drawn["b"]] == ["correct", "correct", "timeout"]


def test_summary() -> None:
    found = summary(read([shard(ROWS)]), equivalent)
    assert found["accuracy"] | {"low": 0, "high": 0} == {
        "value": 0.5, "low": 0, "high": 0, "n": 2, "correct": 1, "unparsed": 1, "undecided": 0
    }  # fmt: skip
    assert found["pass_at_k"]["1"]["value"] == pytest.approx((1 / 3 + 1) / 2)
    assert found["pass_at_k"]["3"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 1}  # b has two judged samples only
    assert found["maj_at_k"]["3"]["value"] == 0.0  # 0.5 and 1/2 are one answer and outvote the right one
    assert found["drawn_undecided"] == 1


def test_summary_without_drawn_samples() -> None:
    found = summary(Answers({"a": "correct"}), equivalent)
    assert found["pass_at_k"] == found["maj_at_k"] == {} and found["accuracy"]["value"] == 1.0


def test_a_trace_without_a_verdict_is_named() -> None:
    traces, verdicts = shard(ROWS)
    with pytest.raises(ValueError, match="trace a0 of problem a has no verdict"):
        read([(traces, verdicts.slice(0, 3))])
