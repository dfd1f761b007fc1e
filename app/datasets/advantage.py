"""Steps to imitate: those by which the chance of a right end rose, whatever became of their trace. Pure.

Advantage-filtered SFT and its weighted form (arXiv 2406.14532): the loss is on a step, never on what is before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from app.datasets.pairs import Texts, drawn
from app.datasets.selection import with_end
from app.judged import Judged
from app.records import Example, StepValue, Trace, digest


def good_steps(values: Iterable[StepValue], least: float) -> list[StepValue]:
    """Steps whose advantage is known and at least `least`, by trace id and step. Step 0, the bare problem, is none."""
    kept = [row for row in values if row.step and row.advantage is not None and row.advantage >= least]
    return sorted(kept, key=lambda row: (row.trace_id, row.step))


def step_examples(
    rows: Sequence[StepValue],
    samples: Sequence[Judged],
    rollouts: Sequence[Judged],
    completion: str,
    texts: Texts,
    weighted: bool = False,
) -> list[Example]:
    """Steps of one problem as examples: the prompt is the problem and the steps before.

    Traces that begin alike have steps in common; each is taken once.

    Args:
        rows: from `good_steps`, all of one problem.
        samples: the problem's plain samples, the rows' traces among them.
        rollouts: those of the credit stage.
        completion: `step`, the step alone; `rest`, the step and a right way on from it: a right trace's own rest, or
            the shortest right continuation of a wrong one. A step without any is left out.
        weighted: an example weighs what its step's advantage is, else 1.
    """
    named = {trace.id: trace for trace, _ in samples}
    pool = [*samples, *rollouts]
    out: dict[tuple[tuple[int, ...], tuple[int, ...]], Example] = {}
    for row in rows:
        trace = named[row.trace_id]
        ids = step_tokens(trace, row, texts.end_id) if completion == "step" else _rest(trace, row, pool, texts.end_id)
        if ids is None:
            continue
        before = trace.token_ids[: row.start]
        prompt_ids = [*trace.prompt_token_ids, *before]
        head, tail = texts.split(before, ids)
        example = Example(
            id="e-" + digest("step", trace.id, row.step, completion),
            problem_id=trace.problem_id,
            trace_id=trace.id,
            prompt_token_ids=prompt_ids,
            completion_token_ids=ids,
            prompt=texts.prompt + head,
            completion=tail,
            weight=row.advantage if weighted and row.advantage is not None else 1.0,
        )
        out.setdefault((tuple(prompt_ids), tuple(ids)), example)
    return list(out.values())


def step_tokens(trace: Trace, row: StepValue, end_id: int) -> list[int]:
    """The step's tokens; the last step is closed by the end token."""
    last = row.end == len(trace.token_ids)
    return with_end(trace, end_id)[row.start : None if last else row.end]


def _rest(trace: Trace, row: StepValue, pool: Sequence[Judged], end_id: int) -> list[int] | None:
    """The step and a right way on from it, or None where none is known."""
    if row.right:
        return with_end(trace, end_id)[row.start :]
    ways = [with_end(source, end_id)[skip:] for _, (source, skip), correct in drawn(trace, row.end, pool) if correct]
    if not ways:
        return None
    return [*trace.token_ids[row.start : row.end], *min(ways, key=lambda tail: (len(tail), tail))]
