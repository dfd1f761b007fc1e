"""What a data set is made from: training problems, judged samples of one policy or several, and their step values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from app.datasets.pairs import Texts
from app.datasets.selection import refuse_evaluation
from app.judged import Judged, judged_shard
from app.policy import base_policy
from app.problems.certificate import require
from app.problems.overlap import statement_digest
from app.records import Problem, StepValue
from app.rendering import Renderer
from app.stage import StageContext
from app.store import Output
from app.tokens import TokenText


@dataclass(frozen=True)
class Credit:
    """What is known of a problem's steps."""

    values: list[StepValue]
    rollouts: list[Judged]


NOTHING = Credit([], [])


class Sources:
    """The inputs of a data set stage, one shard at a time.

    Shard i of every policy's samples is about the same problems, so that they can be joined without holding them all.
    """

    def __init__(self, context: StageContext) -> None:
        self.inputs, self.seed, self.progress = context.inputs, context.recipe.seed, context.progress
        model = context.recipe.model
        path = base_policy(model).path
        self.renderer = Renderer(path, context.recipe.rendering, model.revision, model.trust_remote_code)
        self.tokens = TokenText(self.renderer.decode)
        self.problems = {p.id: p for p in self._training_problems()}

    def _training_problems(self) -> list[Problem]:
        """All training problems. Raises UserError where one is an evaluation problem too, or where new problems have no
        certificate that none of them repeats one.
        """
        training: list[Problem] = []
        evaluation: dict[str, set[str]] = {}
        source, held_out = self.inputs["problems"], self.inputs["held_out"]
        for output in {o.uri: o for o in (source, held_out)}.values():
            for table in output.tables():
                for problem in Problem.from_table(table):
                    if problem.split != "train":
                        evaluation.setdefault(problem.split, set()).add(statement_digest(problem.statement))
                    elif output == source:
                        training.append(problem)
        refuse_evaluation(training, set().union(*evaluation.values()))
        if source != held_out and evaluation:
            require(source, training, evaluation)
        return training

    def shards(self) -> list[int]:
        """Shards of the samples; the progress of the stage counts them."""
        shards = self.inputs["sampling"].done_shards()
        self.progress.begin(len(shards) + ("teacher" in self.inputs))
        return shards

    def teacher(self) -> pa.Table | None:
        """The teacher's examples, where the method wants them."""
        return self.inputs["teacher"].read() if "teacher" in self.inputs else None

    def texts(self, problem: Problem) -> Texts:
        return Texts(self.tokens, self.renderer.end_id, self.renderer.prompt(problem.statement))

    def judged(self, shard: int) -> list[tuple[Problem, list[Judged]]]:
        """Problems of a shard with the samples of all policies and their verdicts, by problem id."""
        by_problem: dict[str, list[Judged]] = {}
        for traces, verdicts in zip(self._all("sampling"), self._all("verification"), strict=True):
            for problem, samples in judged_shard(traces, verdicts, shard).items():
                by_problem.setdefault(problem, []).extend(samples)
        return [(self.problems[name], by_problem[name]) for name in sorted(by_problem)]

    def credit(self, shard: int) -> Callable[[str], Credit]:
        """Step values and judged rollouts of a shard, asked for by problem id."""
        out: dict[str, Credit] = {}
        for output in self._all("credit"):
            for row in StepValue.from_table(output.read_shard(shard)):
                out.setdefault(row.problem_id, Credit([], [])).values.append(row)
            for problem, pairs in judged_shard(output, output, shard, "rollouts", "verdicts").items():
                out.setdefault(problem, Credit([], [])).rollouts.extend(pairs)
        return lambda problem_id: out.get(problem_id, NOTHING)

    def _all(self, role: str) -> Iterator[Output]:
        """The outputs in a role: `sampling`, `sampling.1` and so on."""
        number = 0
        while (name := role if not number else f"{role}.{number}") in self.inputs:
            yield self.inputs[name]
            number += 1
