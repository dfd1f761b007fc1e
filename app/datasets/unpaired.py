"""Right and wrong examples without partners: whole traces by their verdicts, or steps by their values. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from app.datasets.advantage import step_tokens
from app.datasets.pairs import Texts
from app.datasets.prm import hard_labels
from app.datasets.selection import with_end
from app.judged import Judged, distinct
from app.records import LabelledExample, StepValue, Trace, digest


def labelled_traces(samples: Sequence[Judged], per_problem: int, seed: int, texts: Texts) -> list[LabelledExample]:
    """Finished traces of one problem, at most so many right and so many wrong ones, no two with the same tokens.

    Which ones is drawn by `seed` and the traces' ids. A trace that was cut off, or could not be judged, is neither.
    """
    return [
        LabelledExample(
            id="u-" + digest("trace", trace.id),
            problem_id=trace.problem_id,
            trace_id=trace.id,
            prompt_token_ids=trace.prompt_token_ids,
            completion_token_ids=with_end(trace, texts.end_id),
            prompt=texts.prompt,
            completion=trace.text,
            label=right,
        )
        for right in (True, False)
        for trace in distinct(samples, right, lambda t: digest(seed, t.id))[:per_problem]
    ]


def labelled_steps(values: Iterable[StepValue], samples: Sequence[Judged], texts: Texts) -> list[LabelledExample]:
    """Steps of one problem: the prompt is the problem and the steps before, all of them right.

    Labels are the hard ones of step values (prm.hard_labels). Of a wrong trace these are its right steps and the first
    wrong one; what follows it says nothing more, for the trace is lost by then. Where several traces write the same
    step after the same steps it is taken once, and it is right if one of them shows that it is.

    Args:
        values: what credit wrote of the problem.
        samples: the problem's plain samples, the values' traces among them.
    """
    named = {trace.id: trace for trace, _ in samples}
    traces: dict[str, list[StepValue]] = {}
    for row in sorted(values, key=lambda row: (row.trace_id, row.step)):
        if row.step:
            traces.setdefault(row.trace_id, []).append(row)
    out: dict[tuple[tuple[int, ...], tuple[int, ...]], LabelledExample] = {}
    for name, rows in traces.items():
        for row, right in _known(rows):
            made = _step(named[name], row, right, texts)
            key = tuple(made.prompt_token_ids), tuple(made.completion_token_ids)
            before = out.setdefault(key, made)
            out[key] = replace(before, label=before.label or right)
    return list(out.values())


def _known(rows: Sequence[StepValue]) -> list[tuple[StepValue, bool]]:
    """The first steps of a trace that are right, and the wrong one after them where that is known."""
    labels = hard_labels(rows)
    good = next((i for i, label in enumerate(labels) if not label), len(rows))
    last = good + 1 if good < len(rows) and labels[good] is False else good
    return [(row, i < good) for i, row in enumerate(rows[:last])]


def _step(trace: Trace, row: StepValue, right: bool, texts: Texts) -> LabelledExample:
    before, ids = trace.token_ids[: row.start], step_tokens(trace, row, texts.end_id)
    head, tail = texts.split(before, ids)
    return LabelledExample(
        id="u-" + digest("step", trace.id, row.step),
        problem_id=trace.problem_id,
        trace_id=trace.id,
        prompt_token_ids=[*trace.prompt_token_ids, *before],
        completion_token_ids=ids,
        prompt=texts.prompt + head,
        completion=tail,
        label=right,
    )
