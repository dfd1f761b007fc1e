"""A trace that was cut has no answer, and a reference that cannot be read judges nothing: in every stage."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.credit.settings import CreditSettings
from app.errors import UserError
from app.evaluation import during
from app.evaluation import stage as evaluation
from app.pipeline import manifest
from app.policy import Policy
from app.progress import Progress
from app.records import Problem, Trace, Verdict
from app.report.results import results
from app.sampling import stage as sampling
from app.sampling.engine import Completion, Engine, Request
from app.sampling.scripted import ScriptedEngine
from app.stage import Stage, StageContext
from app.store import Output
from app.verification import judge, judge_batch
from app.verification import stage as verification
from app.verification.references import readable
from jobs import verify
from tests.credit import student as world
from tests.evaluation import test_during, test_stage
from tests.evaluation.workers import ScriptedWorker as Answering
from tests.sampling import test_stage as sampled
from tests.sampling.workers import ScriptedWorker as Sampling

UNREADABLE = "\\oint_C 2\\,ds"


def said(verdict: Verdict) -> tuple[str, str]:
    return verdict.outcome, verdict.reason


@pytest.mark.parametrize("ending", ["length", "abort"])
def test_a_cut_trace_is_unfinished_whatever_it_says(ending: str) -> None:
    for text in ("so \\boxed{2}", "#### 2", "#### 3", "", "The answer is 2."):
        verdict = judge("2", text, finish_reason=ending)
        assert (*said(verdict), verdict.extracted) == ("unparsed", "unfinished", None)


def test_an_ended_trace_or_one_of_which_nobody_knows_is_judged() -> None:
    assert judge("2", "#### 2", finish_reason="stop").correct and judge("2", "#### 2", finish_reason=None).correct
    mixed = judge_batch(["2"] * 3, ["#### 2"] * 3, None, ["length", "stop", None])
    assert [v.outcome for v in mixed] == ["unparsed", "correct", "correct"]


def test_an_unknown_finish_reason_is_an_error_not_a_guess() -> None:
    assert said(judge("2", "#### 2", finish_reason="done")) == ("error", "bad-finish-reason")


def test_finish_reasons_must_align() -> None:
    with pytest.raises(ValueError, match="2 references, 2 texts, no questions, 1 finish reasons"):
        judge_batch(["1", "2"], ["1", "2"], None, ["stop"])


@pytest.mark.parametrize("text", [f"\\boxed{{{UNREADABLE}}}", "\\boxed{2}", "#### 2", "no idea"])
@pytest.mark.parametrize("ending", ["stop", "length"])
def test_an_unreadable_reference_is_an_error_of_every_trace(text: str, ending: str) -> None:
    assert said(judge(UNREADABLE, text, finish_reason=ending)) == ("error", "bad-reference")


@pytest.mark.parametrize(
    "reference",
    ["18", "1,234.5", "B", "(C)", "12:30 pm", "noon", "\\frac{1}{2}", "x=3, y=4", "No, it is not prime", "9" * 9_000],
)
def test_references_that_can_be_read(reference: str) -> None:
    assert readable(reference)


@pytest.mark.parametrize("reference", [UNREADABLE, "", "  ", None, "x" + "9" * 9_000, "x^2 @ y"])
def test_references_that_cannot(reference: Any) -> None:
    assert not readable(reference)


class Cut(ScriptedEngine):
    """Says the right answer and is cut there."""

    def __init__(self, context: int = 40) -> None:
        super().__init__(lambda r: Completion((r.seed % 97, 6, 2), "#### 1", "length"), context_length=context)


def test_quotas_do_not_take_a_cut_trace_for_a_right_one(tmp_path: Path) -> None:
    class Worker(Sampling):
        def start_engine(self) -> Engine:
            return Cut()

    asked = sampled.context(tmp_path, stopping={"correct": 1})
    worker = Worker(*sampling.work(asked.recipe, Policy("scripted", "pol")), asked.inputs["problems"], asked.output)
    asyncio.run(worker.process(0))
    assert asked.output.counts()["correct"] == 0 and asked.output.counts()["quotas_unmet"] == 4


def verified(folder: Path, problems: list[Problem], traces: list[Trace]) -> dict[str, Output]:
    """Finished outputs of problems, sampling and verification, the last by its own worker."""
    outputs = {name: Output(str(folder), name, "k") for name in ("problems", "sampling", "verification")}
    outputs["problems"].write_shard(0, Problem.table(problems))
    outputs["sampling"].write_shard(0, Trace.table(traces), {"tokens": 1.0})
    worker = verification.VerificationWorker(*outputs.values())
    asyncio.run(worker.process(0))
    recipe = world.recipe()
    for name, output in outputs.items():
        reads = {"sampling": outputs["sampling"]} if name == "verification" else {}
        context = StageContext(Stage(name, print, {}), recipe, reads, output, Progress(name, out=io.StringIO()))
        session = {"started": "", "seconds": 1.0, "cpus": 0.0, "gpus": 0.0}
        output.finish(manifest(context, [session]))
    return outputs


def trace(problem: str, sample: int, text: str, ending: str) -> Trace:
    return Trace(f"t-{problem}-{sample}", problem, sample, 0, "pol", [1], [5, sample], text, ending)


def test_verification_judges_by_the_finish_reason_and_the_report_counts(tmp_path: Path) -> None:
    problems = [Problem("p-1", "Q", "2", "train", "test"), Problem("p-2", "R", UNREADABLE, "train", "test")]
    traces = [
        trace("p-1", 0, "#### 2", "stop"),
        trace("p-1", 1, "#### 2", "length"),
        trace("p-1", 2, "#### 2", "abort"),
        trace("p-2", 0, "#### 2", "stop"),
        trace("p-2", 1, "#### 2", "length"),
    ]
    outputs = verified(tmp_path, problems, traces)
    found = Verdict.from_table(outputs["verification"].read())
    assert [v.outcome for v in found] == ["correct", "unparsed", "unparsed", "error", "error"]
    counts = outputs["verification"].counts()
    assert (counts["unfinished"], counts["bad_references"]) == (2, 1)
    named = {name if name == "problems" else f"{name}/base": output for name, output in outputs.items()}
    shown = results(world.recipe(), named, {})["samples"]["base"]["yield"]
    assert (shown["unfinished"], shown["bad_references"]) == (2, 1)


def test_a_cut_rollout_is_unfinished_in_credit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    made = world.problems()
    student = world.Student(made, world.renderer())
    inputs = asyncio.run(world.sampled(tmp_path, student, made, world.recipe()))

    class Cutting(world.Student):
        async def generate(self, request: Request) -> Completion:
            done = await super().generate(request)
            return dataclasses.replace(done, finish_reason="length") if len(self.requests) % 2 else done

    cutting = Cutting(made, world.renderer())
    monkeypatch.setattr("app.sampling.stage.create", lambda *args, **kwargs: cutting)
    output = Output(str(tmp_path), "credit", "k")
    worker = world.credit_worker(world.recipe(), inputs, output)
    asyncio.run(worker.process(0))
    rollouts = {t.id: t for t in Trace.from_table(output.read(kind="rollouts"))}
    verdicts = Verdict.from_table(output.read(kind="verdicts"))
    assert {t.finish_reason for t in rollouts.values()} == {"stop", "length"}
    cut = {said(v) for v in verdicts if rollouts[v.trace_id].finish_reason == "length"}
    assert cut == {("unparsed", "unfinished")}
    assert any(v.correct for v in verdicts if rollouts[v.trace_id].finish_reason == "stop")


class CutAnswers(Answering):
    def start_engine(self) -> Engine:
        return Cut()


def test_evaluation_credits_no_cut_answer_and_counts_them(tmp_path: Path) -> None:
    asked = test_stage.context(tmp_path)
    job = evaluation.work(asked.recipe, Policy("scripted", "pol"))
    worker = CutAnswers(*job, asked.inputs["problems"], asked.output)
    asyncio.run(worker.process(0))
    assert {said(v) for v in Verdict.from_table(asked.output.read(kind="verdicts"))} == {("unparsed", "unfinished")}
    counts = asked.output.counts()
    assert (counts["unfinished_greedy"], counts["bad_references"], counts.get("correct_greedy", 0)) == (4, 0, 0)


def test_evaluation_beside_training_credits_no_cut_answer(tmp_path: Path) -> None:
    evaluator = test_during.held_out(tmp_path, 10)
    evaluator.worker_class = CutAnswers  # type: ignore[assignment]
    row = asyncio.run(evaluator.evaluate("3", "k@3"))
    assert (row["correct"], row["judged"], row["unfinished"]) == (0, 10, 10)


@pytest.mark.parametrize("option", [[], ["--finish-column", "ending"]])
def test_the_job_reads_finish_reasons(tmp_path: Path, option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    name = option[1] if option else "finish_reason"
    rows = [{"reference": "29", "text": "#### 29", name: ending} for ending in ("stop", "length", None, "odd")]
    rows.append({"reference": UNREADABLE, "text": "#### 29", name: "stop"})
    traces, out = tmp_path / "traces.jsonl", tmp_path / "out.jsonl"
    traces.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert verify.main(["--traces", str(traces), "--out", str(out), *option]) == 0
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["outcome"] for row in found] == ["correct", "unparsed", "correct", "error", "error"]
    shown = capsys.readouterr().out
    assert "of these unfinished 1" in shown and "of these bad-reference 1" in shown


def with_references(answers: list[str], split: str) -> Callable[[StageContext], StageContext]:
    """A context whose problems of a split have these references."""

    def change(context: StageContext) -> StageContext:
        root = context.output.root
        problems = Output(root, "problems", "bad")
        rows = [Problem(f"p-{n:03d}", "axyz", a, split, "made-up") for n, a in enumerate(answers)]
        problems.write_shard(0, Problem.table(rows))
        return dataclasses.replace(context, inputs={**context.inputs, "problems": problems})

    return change


def sampling_at(folder: Path, answers: list[str]) -> tuple[Callable[[StageContext], None], StageContext]:
    return sampling.run, with_references(answers, "train")(sampled.context(folder))


def verification_at(folder: Path, answers: list[str]) -> tuple[Callable[[StageContext], None], StageContext]:
    _, context = sampling_at(folder, answers)
    context.inputs["sampling"] = Output(str(folder), "sampling", "k")
    return verification.run, context


def credit_at(folder: Path, answers: list[str]) -> tuple[Callable[[StageContext], None], StageContext]:
    from app.credit import stage as credit

    _, context = verification_at(folder, answers)
    context.inputs["verification"] = Output(str(folder), "verification", "k")
    recipe = context.recipe.model_copy(update={"credit": CreditSettings()})
    return credit.run, dataclasses.replace(context, recipe=recipe)


def evaluation_at(folder: Path, answers: list[str]) -> tuple[Callable[[StageContext], None], StageContext]:
    return evaluation.run, with_references(answers, "test")(test_stage.context(folder))


def beside_at(folder: Path, answers: list[str]) -> tuple[Callable[[StageContext], None], StageContext]:
    context = with_references(answers, "validation")(test_stage.context(folder))
    return lambda c: during.check(c.recipe, c.inputs["problems"]), context


STAGES = [sampling_at, verification_at, credit_at, evaluation_at, beside_at]


@pytest.mark.parametrize("at", STAGES)
def test_a_stage_stops_before_it_begins_where_references_cannot_be_read(at: Any, tmp_path: Path) -> None:
    run, context = at(tmp_path, ["1"] * 98 + [UNREADABLE, "x^2 @ y"])
    with pytest.raises(UserError, match=r"(?s)2 of 100 reference answers.*p-098 \(made-up\).*oint.*p-099") as raised:
        run(context)
    assert "verification.bad_references" in str(raised.value)
    assert context.output.done_shards() == []


@pytest.mark.parametrize("at", STAGES)
def test_one_in_a_hundred_may_be_bad(at: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    for module in (sampling, verification, evaluation, __import__("app.credit.stage", fromlist=["run"])):
        monkeypatch.setattr(module, "run_shards", lambda *a: begun.append(a))
        if hasattr(module, "report"):
            monkeypatch.setattr(module, "report", lambda c: None)
    monkeypatch.setattr(evaluation, "_report", lambda c: None)
    run, context = at(tmp_path, ["1"] * 99 + [UNREADABLE])
    run(context)
    assert len(begun) == (at is not beside_at)


def test_the_share_is_a_setting(tmp_path: Path) -> None:
    run, context = evaluation_at(tmp_path, ["1"] * 99 + [UNREADABLE])
    strict = context.recipe.verification.model_copy(update={"bad_references": 0.0})
    recipe = context.recipe.model_copy(update={"verification": strict})
    with pytest.raises(UserError, match="1 of 100"):
        run(dataclasses.replace(context, recipe=recipe))
