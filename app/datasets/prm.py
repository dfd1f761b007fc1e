"""Step labels for process reward models, from step values. Pure.

Soft label of a step = Q of the prefix that ends with it. Hard label, after Math-Shepherd (arXiv 2312.08935) = whether
the problem can still be solved from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from app.records import TOKENS, Record, StepValue, Trace, digest


@dataclass(frozen=True, slots=True)
class StepLabel(Record):
    """One step of one trace. `soft` is None where no rollout was drawn; `hard` where nothing tells either."""

    id: str
    problem_id: str
    trace_id: str
    step: int  # from 1
    prompt: str
    prefix: str  # the steps before
    text: str  # the step, its line end included
    prefix_token_ids: list[int]  # the prompt and the steps before
    step_token_ids: list[int]
    soft: float | None
    hard: bool | None
    correct: int  # rollouts that ended right, of `judged`
    judged: int

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("problem_id", pa.string(), nullable=False),
            pa.field("trace_id", pa.string(), nullable=False),
            pa.field("step", pa.int32(), nullable=False),
            pa.field("prompt", pa.string(), nullable=False),
            pa.field("prefix", pa.string(), nullable=False),
            pa.field("text", pa.string(), nullable=False),
            pa.field("prefix_token_ids", TOKENS, nullable=False),
            pa.field("step_token_ids", TOKENS, nullable=False),
            pa.field("soft", pa.float64()),
            pa.field("hard", pa.bool_()),
            pa.field("correct", pa.int32(), nullable=False),
            pa.field("judged", pa.int32(), nullable=False),
        ]
    )


def step_labels(trace: Trace, values: Sequence[StepValue], prompt: str) -> list[StepLabel]:
    """Labels of all steps of a trace, in order.

    Args:
        values: all rows credit wrote of the trace, step 0 among them or not.
        prompt: text of the problem's prompt.
    """
    rows = sorted((row for row in values if row.step), key=lambda row: row.step)
    hard = hard_labels(rows)
    return [
        StepLabel(
            id="l-" + digest(trace.id, row.step),
            problem_id=trace.problem_id,
            trace_id=trace.id,
            step=row.step,
            prompt=prompt,
            prefix="".join(before.text for before in rows[: row.step - 1]),
            text=row.text,
            prefix_token_ids=[*trace.prompt_token_ids, *trace.token_ids[: row.start]],
            step_token_ids=trace.token_ids[row.start : row.end],
            soft=row.q,
            hard=label,
            correct=row.correct,
            judged=row.judged,
        )
        for row, label in zip(rows, hard, strict=True)
    ]


def hard_labels(rows: Sequence[StepValue]) -> list[bool | None]:
    """Hard labels of the steps 1 to n of a trace.

    A right rollout after step j is a right way on from every step before it too, so all steps up to the last such j
    are good. Behind it, a step from which no rollout ended right is bad, and so is all that follows; between the two a
    named pit divides good from bad, and without one a step that was not rolled out has no label.
    """
    alive = max((row.step for row in rows if row.hard), default=0)
    dead = min((row.step for row in rows if row.step > alive and row.hard is False), default=len(rows) + 1)
    pit = next((row.step for row in rows if row.first_pit), None)
    out: list[bool | None] = []
    for row in rows:
        if row.step <= alive:
            out.append(True)
        elif row.step >= dead:
            out.append(False)
        else:
            out.append(None if pit is None else row.step < pit)
    return out


STEPWISE = pa.schema(
    [
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("completions", pa.list_(pa.string()), nullable=False),
        pa.field("labels", pa.list_(pa.bool_()), nullable=False),
        pa.field("soft_labels", pa.list_(pa.float64()), nullable=False),
    ]
)


def stepwise(labels: Sequence[StepLabel]) -> pa.Table:
    """Traces as stepwise supervision: `prompt`, `completions` (a text a step), `labels` (hard), and `soft_labels`.

    The form Math-Shepherd's set has on the hub and PRM trainers read; they put their own separator after a step, so a
    step's line end is left out. A trace with a step of unknown hard label is left out; soft labels may be null.
    """
    traces: dict[str, list[StepLabel]] = {}
    for label in labels:
        traces.setdefault(label.trace_id, []).append(label)
    whole = [steps for steps in traces.values() if all(step.hard is not None for step in steps)]
    return pa.table(
        {
            "prompt": [steps[0].prompt for steps in whole],
            "completions": [[step.text.rstrip("\n") for step in steps] for steps in whole],
            "labels": [[step.hard for step in steps] for steps in whole],
            "soft_labels": [[step.soft for step in steps] for steps in whole],
        },
        schema=STEPWISE,
    )
