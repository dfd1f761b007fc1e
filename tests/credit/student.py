"""A student of the grade-school world as an engine: one operation a line, each line wrong with a known chance.

Whatever a line says, the student goes on from it, so a trace that went wrong nearly always stays wrong.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

from app.credit.stage import CreditWorker, Inputs, work
from app.policy import WORLD_MODEL, Policy
from app.problems.world import Story, make_problems
from app.recipe import Recipe
from app.records import Problem, Trace, Verdict
from app.rendering import Renderer
from app.sampling.engine import Completion, Engine, Request, check_fits
from app.sampling.requests import sample_n
from app.store import Output
from tests.judging import judge_traces

RECIPE = {
    "name": "test",
    "seed": 3,
    "problems": {"train": 12, "validation": 3, "test": 3},
    "sampling": {"samples": 6, "problems_per_shard": 5},
    "credit": {"search": "exhaustive", "rollouts": 4, "traces_per_problem": 3},
}
POLICY = Policy(str(WORLD_MODEL), "student")


def recipe(**parts: dict) -> Recipe:
    """The recipe above with keys of its parts replaced."""
    return Recipe.model_validate(RECIPE | {name: {**RECIPE.get(name, {}), **part} for name, part in parts.items()})


class Student(Engine):
    """Knows the problems by their statements."""

    context_length = 512

    def __init__(self, problems: Iterable[Problem], renderer: Renderer, slip: float = 0.15) -> None:
        self.stories = {p.statement: Story.of(p) for p in problems}
        self.renderer, self.slip = renderer, slip
        self.requests: list[Request] = []

    async def generate(self, request: Request) -> Completion:
        check_fits(request, self.context_length)
        self.requests.append(request)
        statement, *lines = self.renderer.decode(list(request.prompt_token_ids)).split("\n")
        text = self._solve(self.stories[statement], lines[:-1], random.Random(request.seed))
        return Completion(tuple(self.renderer.completion_ids(text)), text, "stop")

    def _solve(self, story: Story, done: list[str], rng: random.Random) -> str:
        total = int(done[-1].rpartition("= ")[2]) if done else story.start
        lines = []
        for event in story.events[len(done) :]:
            result = event.apply(total)
            if rng.random() < self.slip:
                result += 1
            result = min(99, max(1, result))  # the world has no other numbers
            lines.append(f"{total} {event.op} {event.amount} = {result}")
            total = result
        return "\n".join([*lines, f"#### {total}"])


def problems(count: int = 12) -> list[Problem]:
    made = [p for split, n in (("train", count), ("validation", 3), ("test", 3)) for p in make_problems(0, n, split)]
    return sorted(made, key=lambda p: p.id)


def renderer() -> Renderer:
    return Renderer(str(WORLD_MODEL), recipe().rendering)


async def sampled(folder: Path, student: Student, made: list[Problem], recipe: Recipe) -> dict[str, Output]:
    """Outputs of problems, sampling and verification, as those stages write them."""
    root = str(folder)
    outputs = {name: Output(root, name, "k") for name in ("problems", "sampling", "verification")}
    outputs["problems"].write_shard(0, Problem.table(made))
    train = sorted((p for p in made if p.split == "train"), key=lambda p: p.id)
    size = recipe.sampling.problems_per_shard
    for shard, start in enumerate(range(0, len(train), size)):
        traces: list[Trace] = []
        for problem in train[start : start + size]:
            prompt = student.renderer.prompt_ids(problem.statement)
            pairs = await sample_n(student, problem, prompt, recipe.sampling, recipe.seed, POLICY.fingerprint)
            traces += [trace for trace, _ in pairs]
        outputs["sampling"].write_shard(shard, Trace.table(traces))
        verdicts = judge_traces(traces, {p.id: p for p in train})
        outputs["verification"].write_shard(shard, Verdict.table(verdicts))
    return outputs


def credit_worker(recipe: Recipe, inputs: dict[str, Output], output: Output) -> CreditWorker:
    """The stage's worker over outputs of problems, sampling and verification."""
    given = Inputs(*(inputs[name] for name in ("problems", "sampling", "verification")))
    return CreditWorker(*work(recipe, POLICY), given, output)
