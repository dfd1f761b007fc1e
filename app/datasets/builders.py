"""Rows of each method's data set: a generator of tables with their counts, named by its entry in app/methods.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pyarrow as pa

from app.datasets import unpaired
from app.datasets.advantage import good_steps, step_examples
from app.datasets.pairs import dpo_pairs, pits, step_pairs
from app.datasets.prm import StepLabel, step_labels
from app.datasets.selection import doubtful, own_example, right_traces, teacher_example
from app.datasets.settings import (
    AdvantageNllSettings,
    AdvantageSftSettings,
    DpoSettings,
    LabelledStepsSettings,
    LabelledTracesSettings,
    PrmSettings,
    RftSettings,
    SftSettings,
    StepDpoSettings,
)
from app.datasets.sources import NOTHING, Sources
from app.records import Example, LabelledExample, PreferencePair, StepValue

Made = tuple[pa.Table, dict[str, float]]


def sft(sources: Sources, _: SftSettings) -> Iterator[Made]:
    """Teacher solutions, by problem id."""
    sources.progress.begin(1)
    render = sources.renderer
    problems = [sources.problems[name] for name in sorted(sources.problems)]
    made = [teacher_example(p, render.prompt, render.prompt_ids, render.completion_ids) for p in problems]
    examples = [example for example in made if example]
    yield Example.table(examples), _example_counts(examples) | {"without_solution": len(made) - len(examples)}


def rft(sources: Sources, settings: RftSettings) -> Iterator[Made]:
    """The policy's own distinct correct traces, and the teacher's rows first where the run keeps them."""
    shards, teacher = sources.shards(), sources.teacher()
    if teacher:
        table = teacher.select(Example.schema.names)
        yield table, {"examples": table.num_rows, "teacher": table.num_rows}
    for shard in shards:
        kept: list[Example] = []
        right, all_right, left_out = 0, 0, Counter[str]()
        credit = sources.credit(shard) if settings.needs_credit else lambda _: NOTHING
        for problem, samples in sources.judged(shard):
            right += sum(verdict.correct for _, verdict in samples)
            if settings.mixed_only and all(verdict.correct for _, verdict in samples):
                all_right += 1
                continue
            doubts = doubtful(samples, credit(problem.id).values, settings)
            left_out.update(f"left_out_{reason}" for reason in doubts.values())
            sound = [pair for pair in samples if pair[0].id not in doubts]
            traces = right_traces(sound, settings.per_problem, sources.seed)
            prompt = sources.renderer.prompt(problem.statement)
            kept += [own_example(trace, prompt, sources.renderer.end_id) for trace in traces]
        counts = _example_counts(kept) | {"own": len(kept), "correct_traces": right, **left_out}
        yield Example.table(kept), counts | ({"problems_all_right": all_right} if settings.mixed_only else {})


def dpo(sources: Sources, settings: DpoSettings) -> Iterator[Made]:
    """Correct against wrong traces of the same problem."""
    for shard in sources.shards():
        made: list[PreferencePair] = []
        for problem, samples in sources.judged(shard):
            made += dpo_pairs(samples, settings.per_problem, sources.seed, sources.texts(problem))
        yield PreferencePair.table(made), _pair_counts(made)


def step_dpo(sources: Sources, settings: StepDpoSettings) -> Iterator[Made]:
    """Continuations from the step before each first pit."""
    for shard in sources.shards():
        credit = sources.credit(shard)
        made: list[PreferencePair] = []
        found = usable = 0
        for problem, samples in sources.judged(shard):
            mine = credit(problem.id)
            traces = [trace for trace, _ in samples]
            usable_pits = pits(traces, mine.values, settings.min_q_before, settings.min_confidence)
            found += sum(row.first_pit for row in mine.values)
            usable += len(usable_pits)
            made += step_pairs(usable_pits, samples, mine.rollouts, settings, sources.seed, sources.texts(problem))
        yield PreferencePair.table(made), _pair_counts(made) | {"pits": found, "pits_with_value_before": usable}


def advantage_sft(sources: Sources, settings: AdvantageSftSettings) -> Iterator[Made]:
    """Own steps of enough advantage, of right and of wrong traces, all of one weight."""
    return _good_steps(sources, settings, weighted=False)


def advantage_nll(sources: Sources, settings: AdvantageNllSettings) -> Iterator[Made]:
    """The same steps, each with its advantage as weight."""
    return _good_steps(sources, settings, weighted=True)


def _good_steps(sources: Sources, settings: AdvantageSftSettings, weighted: bool) -> Iterator[Made]:
    for shard in sources.shards():
        credit = sources.credit(shard)
        made: list[Example] = []
        valued = good = wrong = 0
        for problem, samples in sources.judged(shard):
            mine = credit(problem.id)
            rows = good_steps(mine.values, settings.min_advantage)
            valued += sum(row.step > 0 and row.advantage is not None for row in mine.values)
            good += len(rows)
            wrong += sum(not row.right for row in rows)
            texts = sources.texts(problem)
            made += step_examples(rows, samples, mine.rollouts, settings.completion, texts, weighted)
        counts = {"steps_valued": valued, "steps_good": good, "steps_good_of_wrong_traces": wrong}
        yield Example.table(made), _example_counts(made) | counts


def labelled_traces(sources: Sources, settings: LabelledTracesSettings) -> Iterator[Made]:
    """Own right and wrong traces, each by itself."""
    for shard in sources.shards():
        made: list[LabelledExample] = []
        for problem, samples in sources.judged(shard):
            made += unpaired.labelled_traces(samples, settings.per_problem, sources.seed, sources.texts(problem))
        yield LabelledExample.table(made), _labelled_counts(made)


def labelled_steps(sources: Sources, _: LabelledStepsSettings) -> Iterator[Made]:
    """Right steps, and the first wrong one of a wrong trace, each by itself."""
    for shard in sources.shards():
        credit = sources.credit(shard)
        made: list[LabelledExample] = []
        for problem, samples in sources.judged(shard):
            made += unpaired.labelled_steps(credit(problem.id).values, samples, sources.texts(problem))
        yield LabelledExample.table(made), _labelled_counts(made)


def prm(sources: Sources, settings: PrmSettings) -> Iterator[Made]:
    """Labels of the steps of every trace that credit looked at."""
    for shard in sources.shards():
        credit = sources.credit(shard)
        made: list[StepLabel] = []
        for problem, samples in sources.judged(shard):
            values: dict[str, list[StepValue]] = {}
            for row in credit(problem.id).values:
                if settings.right_traces or not row.right:
                    values.setdefault(row.trace_id, []).append(row)
            prompt = sources.renderer.prompt(problem.statement)
            for trace, _ in samples:
                made += step_labels(trace, values.get(trace.id, []), prompt)
        yield StepLabel.table(made), _label_counts(made)


def _example_counts(examples: list[Example]) -> dict[str, float]:
    return {"examples": len(examples), "tokens": sum(len(e.completion_token_ids) for e in examples)}


def _labelled_counts(examples: list[LabelledExample]) -> dict[str, float]:
    right = sum(example.label for example in examples)
    tokens = sum(len(e.completion_token_ids) for e in examples)
    return {"examples": len(examples), "tokens": tokens, "right": right, "wrong": len(examples) - right}


def _pair_counts(made: list[PreferencePair]) -> dict[str, float]:
    tokens = sum(len(p.chosen_token_ids) + len(p.rejected_token_ids) for p in made)
    return {"pairs": len(made), "tokens": tokens, "problems": len({p.problem_id for p in made})}


def _label_counts(made: list[StepLabel]) -> dict[str, float]:
    return {
        "steps": len(made),
        "labelled_soft": sum(label.soft is not None for label in made),
        "labelled_hard": sum(label.hard is not None for label in made),
        "hard_right": sum(label.hard is True for label in made),
        "traces": len({label.trace_id for label in made}),
    }
