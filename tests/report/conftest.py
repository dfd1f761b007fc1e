"""A finished run as its stages would leave it, made up from seeds: real records and store, no engine."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from app.problems.world import make_problems
from app.progress import Progress
from app.recipe import Recipe
from app.records import (
    Example,
    PreferencePair,
    Problem,
    StepValue,
    Trace,
    Verdict,
    chunked,
    digest,
    seed_from,
    trace_id,
)
from app.sampling import utilisation
from app.stage import Stage, StageContext
from app.store import Output
from app.verification import judge_batch
from tests.teacher import teacher_solution

SKILL = {"base": 0.04, "sft": 0.66, "rft": 0.80, "dpo": 0.71, "step_dpo": 0.84}  # chance that a solution is right
TRAINED = ("sft", "rft", "dpo", "step_dpo")

YIELD = {
    "by_strategy": {
        "similar": {"kept": 30, "no agreement": 6, "near duplicate of seed": 1, "yes or no": 4},
        "harder": {"kept": 10, "no agreement": 8, "contaminated: 12-gram of test": 3},
    },
    "wanted": 40,
    "kept": 40,
    "attempts": 62,
    "requests": 500,
    "tokens": 2610,
    "solve_rates": [4, 0, 3, 5, 6, 7, 6, 5, 4, 10],
}
CERTIFICATE = {
    "rules": {"near_duplicate": 0.8, "ngrams": {"8": 0.5, "12": 0.3}, "mask_numbers": False},
    "lists": {
        "test": {"problems": 60, "digest": "d1", "dropped": {"12-gram": 3}},
        "gsm8k": {"problems": 1319, "digest": "d2", "dropped": {}},
    },
    "compared": 43,
    "dropped": 3,
    "kept": 40,
    "kept_digest": "0123abcd",
    "hits": [
        {"list": "test", "kind": "12-gram", "coverage": 0.4, "problem": "Is <b>4</b> new?", "repeats": "Is 4 old?"}
    ],
}


def recipe(**parts: Any) -> Recipe:
    body: dict[str, Any] = {
        "name": "miniature",
        "problems": {"train": 40, "validation": 5, "test": 60},
        "synthesis": {"count": 40},
        "sampling": {"samples": 6, "problems_per_shard": 16},
        "credit": {},
        "runs": {m: {"method": m, "init": "base" if m in ("sft", "rft") else "sft", "steps": 20} for m in TRAINED},
        "evaluation": {"samples": 8, "problems_per_shard": 25},
    }
    return Recipe.model_validate(body | parts)


def spoil(solution: str, dice: random.Random) -> tuple[str, int]:
    """A solution with one wrong result and all that follows from it, and the line it went wrong in."""
    lines = solution.strip().split("\n")
    wrong = dice.randrange(len(lines) - 1)
    shift = dice.choice([-2, -1, 1, 2, 10])
    for i in range(wrong, len(lines)):
        head, mark, value = lines[i].rpartition("#### " if i == len(lines) - 1 else "= ")
        lines[i] = f"{head}{mark}{int(value) + shift}"
    return "\n".join(lines) + "\n", wrong


class Writer:
    """Writes stages under one root and keeps their outputs."""

    def __init__(self, root: Path) -> None:
        self.root, self.minute = str(root), 0
        self.outputs: dict[str, Output] = {}

    def output(self, name: str) -> Output:
        return Output(self.root, name, digest(name, size=8))

    def finish(
        self, name: str, inputs: tuple[str, ...], seconds: float, settings: dict[str, Any] | None = None
    ) -> None:
        output = self.output(name)
        self.minute += 3
        output.finish(
            {
                "stage": name,
                "key": output.key,
                "revision": 1,
                "settings": settings or {"seed": 0},
                "inputs": {i.partition("/")[0]: self.outputs[i].key for i in inputs},
                "folders": {i.partition("/")[0]: i for i in inputs},
                "shards": len(output.done_shards()),
                "rows": output.written().rows,
                "counts": output.counts(),
                "started": f"2026-05-01T10:{self.minute - 3:02d}:00.000+00:00",
                "finished": f"2026-05-01T10:{self.minute - 1:02d}:30.000+00:00",
                "seconds": seconds,
                "sessions": 1,
                "cpu_seconds": 4 * seconds,
                "gpu_seconds": seconds if name == "sampling/sft" else 0.0,
                "digest": output.written().digest,
                "versions": {"ray": "2.60.0", "torch": "2.13.0"},
            }
        )
        self.outputs[name] = output


def answer(problem: Problem, skill: float, sample: int, policy: str) -> Trace:
    """A made-up solution: the teacher's, sometimes spoiled, sometimes without an answer."""
    dice = random.Random(f"{problem.id} {sample} {policy}")
    hard = random.Random(problem.id).gauss(0, 0.25)  # shared by policies: some problems are hard for all
    text = teacher_solution(problem, sample)
    roll = dice.random() + hard
    if roll > skill:
        text = spoil(text, dice)[0] if dice.random() > 0.06 else "I do not know .\n"
    words = text.split()
    return Trace(
        id=trace_id(problem.id, sample, policy),
        problem_id=problem.id,
        sample=sample,
        seed=seed_from(problem.id, sample),
        policy=policy,
        prompt_token_ids=list(range(len(problem.statement.split()))),
        token_ids=list(range(len(words) + 1)),
        text=text,
        finish_reason="stop",
    )


def judged(traces: list[Trace], problems: dict[str, Problem]) -> list[Verdict]:
    asked = [problems[t.problem_id] for t in traces]
    verdicts = judge_batch([p.answer for p in asked], [t.text for t in traces])
    return [
        Verdict(t.id, v.outcome, v.extracted, v.reason, v.tier, 0.0001) for t, v in zip(traces, verdicts, strict=True)
    ]


def token_counts(traces: list[Trace], verdicts: list[Verdict]) -> dict[str, float]:
    return {
        "traces": len(traces),
        "tokens": sum(len(t.token_ids) for t in traces),
        "engine_seconds": 0.01 * len(traces),
        "correct": sum(v.correct for v in verdicts),
    }


def step_values(trace: Trace) -> list[StepValue]:
    """Values that fall at a made-up pit, for every line but one."""
    dice = random.Random(trace.id)
    lines = trace.text.splitlines(keepends=True)
    pit = dice.randint(1, len(lines))
    rows, token, before = [], 0, None
    for step in range(len(lines) + 1):
        text = lines[step - 1] if step else ""
        start, token = token, token + len(text.split())
        if len(lines) > 3 and step == 1 != pit:
            before = None
            continue
        judged_count = 8
        correct = 0 if step == len(lines) or (step >= pit and dice.random() < 0.8) else dice.randint(3, 8)
        if step >= pit:
            correct = min(correct, 1)
        q = correct / judged_count
        rows.append(
            StepValue(
                trace_id=trace.id,
                problem_id=trace.problem_id,
                step=step,
                start=start,
                end=token,
                text=text,
                correct=correct,
                judged=judged_count,
                q=q,
                low=max(0.0, q - 0.2),
                high=min(1.0, q + 0.2),
                advantage=None if before is None else q - before,
                first_pit=step == pit,
            )
        )
        before = q
    return rows


def write_run(
    root: Path, body: Recipe, tests: int = 60, credit: bool = True, methods: tuple[str, ...] = TRAINED
) -> dict[str, Output]:
    """Write every stage of a run; returns the finished outputs by name."""
    writer = Writer(root)
    train = make_problems(1, 40, "train")
    test = make_problems(1, tests, "test")
    by_id = {p.id: p for p in train + test}
    writer.output("problems").write_shard(0, Problem.table(train + test), {"problems": len(train + test)})
    writer.finish("problems", (), 0.4)
    writer.output("synthesis").write_shard(
        0,
        Problem.table(train),
        {"written": 52, "problems": 40, "near duplicates": 9, "in evaluation set": 3, "tokens": 2610},
    )
    writer.output("synthesis").write_json("yield.json", YIELD)
    writer.output("synthesis").write_json("contamination.json", CERTIFICATE)
    writer.finish("synthesis", ("problems",), 2.1)
    _training(writer, "sft", train, 120)

    traces: list[Trace] = []
    verdicts: list[Verdict] = []
    sampling, verification = writer.output("sampling/sft"), writer.output("verification/sft")
    for index, chunk in enumerate(chunked(sorted(train, key=lambda p: p.id), 16)):
        some = [answer(p, 0.55, s, "sft") for p in chunk for s in range(6)]
        said = judged(some, by_id)
        windows = [{"engine": "e", "begin": 1e9 + 10 * index, "busy": 5.0 + index, "requests": 40.0, "tokens": 1000}]
        sampling.write_shard(index, pa.Table.from_pylist(windows, schema=utilisation.SCHEMA), kind=utilisation.KIND)
        sampling.write_shard(index, Trace.table(some), token_counts(some, said))
        verification.write_shard(index, Verdict.table(said), {"verdicts": len(said)})
        traces, verdicts = traces + some, verdicts + said
    writer.finish("sampling/sft", ("synthesis", "training/sft"), 41.0)
    writer.finish("verification/sft", ("sampling/sft",), 3.2)
    if credit:
        wrong = [t for t, v in zip(traces, verdicts, strict=True) if v.outcome == "incorrect"]
        rows = [row for trace in wrong for row in step_values(trace)]
        writer.output("credit/sft").write_shard(
            0, StepValue.table(rows), {"traces": len(wrong), "tokens": 18_400, "rollouts": 900}
        )
        writer.finish("credit/sft", ("sampling/sft", "verification/sft"), 63.5)
    for method in methods:
        if method != "sft":
            _training(writer, method, train, 180)
    for method in ("base", *methods):
        _evaluation(writer, method, sorted(test, key=lambda p: p.id), by_id)
    return writer.outputs


def _training(writer: Writer, method: str, train: list[Problem], rows: int) -> None:
    name = f"datasets/{method}"
    if method in ("sft", "rft"):
        table = Example.table(Example(f"e{i}", train[i % 40].id, None, [1], [2, 3], "p", "c") for i in range(rows))
    else:
        table = PreferencePair.table(
            PreferencePair(f"r{i}", train[i % 40].id, "a", "b", [1], 0, [2], [3], "p", "c", "r") for i in range(rows)
        )
    writer.output(name).write_shard(
        0, table, {"examples" if method in ("sft", "rft") else "pairs": rows, "duplicates": 31, "tokens": 9_999}
    )
    writer.finish(name, ("synthesis",), 0.3)
    steps = list(range(1, 21))
    start = 3.0 if method in ("sft", "rft") else 0.693
    losses = [start * (0.25 + 0.75 * 0.85**s) for s in steps]
    metrics = pa.table({"step": steps, "loss": losses, "tokens": [640] * 20})
    writer.output(f"training/{method}").write_shard(
        0, metrics, {"steps": 20, "examples": 1280, "tokens": 12_800, "seconds": 50.5}
    )
    writer.finish(f"training/{method}", (name,), 55.0 if method == "sft" else 71.0)


def _evaluation(writer: Writer, method: str, test: list[Problem], by_id: dict[str, Problem]) -> None:
    output = writer.output(f"evaluation/{method}")
    for index, chunk in enumerate(chunked(test, 25)):
        traces = [answer(p, SKILL[method], s, method) for p in chunk for s in range(9)]
        verdicts = judged(traces, by_id)
        output.write_shard(index, Verdict.table(verdicts), kind="verdicts")
        output.write_shard(index, Trace.table(traces), token_counts(traces, verdicts))
    inputs = ("problems",) if method == "base" else ("problems", f"training/{method}")
    writer.finish(f"evaluation/{method}", inputs, 24.0)


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Output]:
    """One whole run, for tests that only read it."""
    return write_run(tmp_path_factory.mktemp("run") / "miniature", recipe())


@pytest.fixture
def make_context(tmp_path: Path) -> Callable[..., StageContext]:
    """The context of a report stage; `root` holds the run it is given."""

    def make(inputs: dict[str, Output], body: Recipe | None = None, root: str | None = None) -> StageContext:
        body = body or recipe()
        options = {"problems": "synthesis", "shown": shown_of(inputs)}
        stage = Stage("report", lambda context: None, {"name": body.name}, {i: i for i in inputs}, options=options)
        output = Output(root or str(tmp_path / body.name), "report", key_of(inputs))
        return StageContext(stage, body, inputs, output, Progress("report"))

    return make


def shown_of(inputs: dict[str, Output]) -> dict[str, dict[str, str | None]]:
    """What the graph tells the report stage: every policy with its stages."""
    names = [name.partition("/")[2] for name in inputs if name.startswith("evaluation/")]
    return {
        name: {"evaluation": f"evaluation/{name}", "training": None if name == "base" else f"training/{name}"}
        for name in names
    }


def key_of(inputs: dict[str, Output]) -> str:
    return digest(sorted((name, output.key) for name, output in inputs.items()), size=8)


@pytest.fixture(scope="session")
def build_run() -> Callable[..., dict[str, Output]]:
    """`write_run`, for tests that need a run of another shape."""
    return write_run


@pytest.fixture(scope="session")
def build_recipe() -> Callable[..., Recipe]:
    return recipe
