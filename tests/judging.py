"""Verdicts of traces at hand, with no stage around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from app.records import Problem, Trace, Verdict
from app.verification.judge import judge_batch


def judge_traces(traces: Sequence[Trace], problems: Mapping[str, Problem]) -> list[Verdict]:
    """One Verdict a trace, same order, against the answer of its problem."""
    asked = [problems[trace.problem_id] for trace in traces]
    texts, endings = [trace.text for trace in traces], [trace.finish_reason for trace in traces]
    verdicts = judge_batch([p.answer for p in asked], texts, [p.statement for p in asked], endings)
    return [replace(verdict, trace_id=trace.id) for verdict, trace in zip(verdicts, traces, strict=True)]
