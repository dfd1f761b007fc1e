"""Stages datasets/sft, /rft, /dpo, /step_dpo, /prm: judged traces to one shard of training rows, and its TRL export."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from app.datasets.export import export, trl_table
from app.datasets.pairs import Texts, dpo_pairs, pits, step_pairs
from app.datasets.prm import StepLabel, step_labels, stepwise
from app.datasets.selection import (
    doubtful,
    own_example,
    refuse_evaluation,
    right_traces,
    teacher_example,
)
from app.errors import UserError
from app.judged import Judged, judged_shard
from app.policy import base_policy
from app.problems.overlap import statement_digest
from app.records import Example, PreferencePair, Problem, StepValue, totals
from app.rendering import Renderer
from app.stage import StageContext
from app.tokens import TokenText

Made = tuple[pa.Table, dict[str, float]]


def run(context: StageContext) -> None:
    """Build the set the stage is named after; one shard, written last."""
    method = context.stage.name.rpartition("/")[2]
    if not context.pending(1):
        return
    builder = _Builder(context)
    pieces: list[Made] = []
    for table, counts in BUILDERS[method](builder):
        pieces.append((table, counts))
        context.progress.advance(1, counts)
    part = pa.concat_tables([table for table, _ in pieces])
    counts = totals(counts for _, counts in pieces)
    if not part.num_rows:
        raise UserError(f"{context.stage.name}: not one row could be made. {EMPTY[method]}")
    export(context.output, stepwise(StepLabel.from_table(part)) if method == "prm" else trl_table(part))
    context.output.write_shard(0, part, counts)


EMPTY = {
    "sft": "No training problem has a solution; give a source with solutions, or a synthesis part, or train RFT on the "
    "policy's own traces alone (datasets.rft.teacher: false)",
    "rft": "No sampled trace is correct; raise sampling.samples or start from a better policy",
    "dpo": "No problem has a correct and a wrong trace; raise sampling.samples or change its temperature",
    "step_dpo": "No first pit has enough value before it and a correct continuation; raise sampling.samples, "
    "credit.rollouts or credit.traces_per_problem, or lower datasets.step_dpo.min_q_before",
    "prm": "Credit looked at no trace: no problem has a correct and a wrong one; raise sampling.samples",
}


class _Builder:
    """Reads the inputs of a data set stage, one shard at a time."""

    def __init__(self, context: StageContext) -> None:
        self.context, self.recipe, self.inputs = context, context.recipe, context.inputs
        model = self.recipe.model
        path = base_policy(model).path
        self.renderer = Renderer(path, self.recipe.rendering, model.revision, model.trust_remote_code)
        self.tokens = TokenText(self.renderer.decode)
        self.source = self.inputs[context.stage.options["problems"]]
        self.problems = {p.id: p for p in self._training_problems()}

    def _training_problems(self) -> list[Problem]:
        """All training problems. Raises UserError where one is an evaluation problem too."""
        training: list[Problem] = []
        evaluation: set[str] = set()
        for output in {o.uri: o for o in (self.source, self.inputs.get("problems", self.source))}.values():
            for table in output.tables():
                for problem in Problem.from_table(table):
                    if problem.split != "train":
                        evaluation.add(statement_digest(problem.statement))
                    elif output == self.source:
                        training.append(problem)
        refuse_evaluation(training, evaluation)
        return training

    # -- rows ---------------------------------------------------------------------------------------------------------

    def sft(self) -> Iterator[Made]:
        """Teacher solutions, by problem id."""
        self.context.progress.begin(1)
        render = self.renderer
        problems = [self.problems[name] for name in sorted(self.problems)]
        made = [teacher_example(p, render.prompt, render.prompt_ids, render.completion_ids) for p in problems]
        examples = [example for example in made if example]
        yield Example.table(examples), _example_counts(examples) | {"without_solution": len(made) - len(examples)}

    def rft(self) -> Iterator[Made]:
        """The policy's own distinct correct traces, and the teacher's rows first where the recipe keeps them."""
        settings = self.recipe.datasets.rft
        teacher = self.inputs[self.context.stage.options["sft"]] if settings.teacher else None
        shards = self.inputs["sampling"].done_shards()
        self.context.progress.begin(len(shards) + bool(teacher))
        if teacher:
            table = teacher.read().select(Example.schema.names)
            yield table, {"examples": table.num_rows, "teacher": table.num_rows}
        for shard in shards:
            kept: list[Example] = []
            right, left_out = 0, Counter[str]()
            credit = self.credit(shard) if settings.needs_credit else {}
            for problem, samples in self.judged(shard):
                right += sum(verdict.correct for _, verdict in samples)
                doubts = doubtful(samples, credit.get(problem.id, NOTHING).values, settings)
                left_out.update(f"left_out_{reason}" for reason in doubts.values())
                sound = [pair for pair in samples if pair[0].id not in doubts]
                traces = right_traces(sound, settings.per_problem, self.recipe.seed)
                prompt = self.renderer.prompt(problem.statement)
                kept += [own_example(trace, prompt, self.renderer.end_id) for trace in traces]
            yield Example.table(kept), _example_counts(kept) | {"own": len(kept), "correct_traces": right, **left_out}

    def dpo(self) -> Iterator[Made]:
        """Correct against wrong traces of the same problem."""
        shards = self.inputs["sampling"].done_shards()
        self.context.progress.begin(len(shards))
        for shard in shards:
            made: list[PreferencePair] = []
            for problem, samples in self.judged(shard):
                made += dpo_pairs(samples, self.recipe.datasets.dpo.per_problem, self.recipe.seed, self.texts(problem))
            yield PreferencePair.table(made), _pair_counts(made)

    def step_dpo(self) -> Iterator[Made]:
        """Continuations from the step before each first pit."""
        settings, seed = self.recipe.datasets.step_dpo, self.recipe.seed
        shards = self.inputs["sampling"].done_shards()
        self.context.progress.begin(len(shards))
        for shard in shards:
            credit = self.credit(shard)
            made: list[PreferencePair] = []
            found = usable = 0
            for problem, samples in self.judged(shard):
                mine = credit.get(problem.id, NOTHING)
                traces = [trace for trace, _ in samples]
                usable_pits = pits(traces, mine.values, settings.min_q_before, settings.min_confidence)
                found += sum(row.first_pit for row in mine.values)
                usable += len(usable_pits)
                made += step_pairs(usable_pits, samples, mine.rollouts, settings, seed, self.texts(problem))
            yield PreferencePair.table(made), _pair_counts(made) | {"pits": found, "pits_with_value_before": usable}

    def prm(self) -> Iterator[Made]:
        """Labels of the steps of every trace that credit looked at."""
        settings = self.recipe.datasets.prm
        assert settings
        shards = self.inputs["sampling"].done_shards()
        self.context.progress.begin(len(shards))
        for shard in shards:
            credit = self.credit(shard)
            made: list[StepLabel] = []
            for problem, samples in self.judged(shard):
                values: dict[str, list[StepValue]] = {}
                for row in credit.get(problem.id, NOTHING).values:
                    if settings.right_traces or not row.right:
                        values.setdefault(row.trace_id, []).append(row)
                prompt = self.renderer.prompt(problem.statement)
                for trace, _ in samples:
                    made += step_labels(trace, values.get(trace.id, []), prompt)
            yield StepLabel.table(made), _label_counts(made)

    # -- inputs -------------------------------------------------------------------------------------------------------

    def texts(self, problem: Problem) -> Texts:
        return Texts(self.tokens, self.renderer.end_id, self.renderer.prompt(problem.statement))

    def judged(self, shard: int) -> list[tuple[Problem, list[Judged]]]:
        """Problems of a sampling shard with their samples and verdicts, by problem id."""
        found = judged_shard(self.inputs["sampling"], self.inputs["verification"], shard)
        return [(self.problems[name], samples) for name, samples in found.items()]

    def credit(self, shard: int) -> dict[str, _Credit]:
        """Step values and judged rollouts of a shard, by problem id."""
        output = self.inputs["credit"]
        out: dict[str, _Credit] = {}
        for row in StepValue.from_table(output.read_shard(shard)):
            out.setdefault(row.problem_id, _Credit([], [])).values.append(row)
        for problem, pairs in judged_shard(output, output, shard, "rollouts", "verdicts").items():
            out.setdefault(problem, _Credit([], [])).rollouts.extend(pairs)
        return out


@dataclass(frozen=True)
class _Credit:
    values: list[StepValue]
    rollouts: list[Judged]


NOTHING = _Credit([], [])
BUILDERS = {
    "sft": _Builder.sft,
    "rft": _Builder.rft,
    "dpo": _Builder.dpo,
    "step_dpo": _Builder.step_dpo,
    "prm": _Builder.prm,
}


def _example_counts(examples: list[Example]) -> dict[str, float]:
    return {"examples": len(examples), "tokens": sum(len(e.completion_token_ids) for e in examples)}


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
