"""Right and wrong examples without partners: which traces, which steps, and that training and TRL's form take them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.credit.stage import CreditWorker
from app.datasets.pairs import Texts
from app.datasets.prm import hard_labels
from app.datasets.unpaired import labelled_steps, labelled_traces
from app.errors import UserError
from app.graph import build as stages_of
from app.methods import find
from app.records import LabelledExample, Problem, Trace, Verdict
from app.store import Output
from app.tokens import TokenText
from app.training.dataset import load
from benchmarks.world_oracle import first_wrong_line
from tests.credit import student as world
from tests.credit.bernoulli import END, decode, ids, trace, verdict
from tests.datasets.test_advantage import QS, valued
from tests.datasets.test_datasets_stage import build, loaded

TEXTS = Texts(TokenText(decode), END, "Q?")


def test_traces_are_those_that_ended_and_were_judged_each_once() -> None:
    told = [("a\n#### 1", "correct"), ("b\n#### 0", "incorrect"), ("a\n#### 1", "correct"), ("c", "unparsed")]
    samples = [(trace(text, n), verdict(trace(text, n), outcome)) for n, (text, outcome) in enumerate(told)]
    samples += [(t := trace("d\n#### 0", 4, "length"), verdict(t, "incorrect"))]
    samples += [(t := trace("e\n#### 0", 5), verdict(t, "timeout")), (t := trace("f\n#### 0", 6), verdict(t, "error"))]
    made = labelled_traces(samples, 4, 0, TEXTS)
    assert [(e.completion, e.label) for e in made if e.label] == [("a\n#### 1", True)]
    assert {e.completion for e in made if not e.label} == {"b\n#### 0", "c"}
    assert all(e.prompt == "Q?" and e.completion_token_ids == ids(e.completion) for e in made)
    again = labelled_traces(samples[:2] + samples[3:][::-1], 4, 0, TEXTS)  # their order does not matter
    assert [e.completion for e in again] == [e.completion for e in made]
    one = labelled_traces(samples, 1, 0, TEXTS)
    assert [e.label for e in one] == [True, False]


@given(QS, st.booleans())
def test_steps_up_to_the_first_wrong_one(qs: list[float | None], right: bool) -> None:
    made, rows = valued(qs, right=right)
    found = labelled_steps(rows, [(made, verdict(made, "correct" if right else "incorrect"))], TEXTS)
    labels = hard_labels(rows[1:])
    assert [e.label for e in found] == labels[: len(found)]
    assert all(e.label for e in found[:-1])
    if len(found) < len(labels):  # it ends with the first wrong step, or before one of which nothing is known
        assert labels[len(found)] is None or (found and found[-1].label is False)
    start = 0
    for example in found:
        assert example.prompt_token_ids[2:] == made.token_ids[:start]
        start += len(example.completion_token_ids)
        assert example.prompt == "Q?" + decode(example.prompt_token_ids[2:])
        assert example.completion == decode(example.completion_token_ids)


def test_a_step_that_one_trace_shows_to_be_right_is_right() -> None:
    (unlucky, low), (lucky, high) = valued([0.5, 0.0, 0.0, 0.0], 0), valued([0.5, 0.0, 1.0, 0.0], 1)
    samples = [(t, verdict(t, "incorrect")) for t in (unlucky, lucky)]
    found = labelled_steps([*low, *high], samples, TEXTS)
    assert [(e.completion, e.label) for e in found] == [("s1\n", True), ("s2\n", True), ("#### 0", False)]


# -- the stages -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made() -> list[Problem]:
    return world.problems()


@pytest.fixture(scope="module")
def inputs(made: list[Problem], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Output]:
    """A scripted student's samples with credit of wrong and of right traces."""
    folder, recipe = tmp_path_factory.mktemp("run"), world.recipe(credit={"correct_traces": 1})
    student = world.Student(made, world.renderer())
    outputs = asyncio.run(world.sampled(folder, student, made, recipe))
    credit = Output(str(folder), "credit", "k")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CreditWorker, "start_engine", lambda self: student)
        worker = world.credit_worker(recipe, outputs, credit)
    for shard in range(3):
        asyncio.run(worker.process(shard))
    return {**outputs, "credit": credit}


@pytest.mark.parametrize("method", ["kto", "negatives"])
def test_traces_carry_their_verdicts(inputs, method: str) -> None:
    output = build(method, inputs, per_problem=2)
    rows = LabelledExample.from_table(output.read())
    correct = {v.trace_id: v.correct for v in Verdict.from_table(inputs["verification"].read())}
    traces = {t.id: t for t in Trace.from_table(inputs["sampling"].read())}
    for row in rows:
        assert row.label == correct[row.trace_id]
        assert row.completion_token_ids == traces[row.trace_id].token_ids
    each = {(row.problem_id, row.label) for row in rows}
    assert all(sum((r.problem_id, r.label) == kind for r in rows) <= 2 for kind in each)
    counts = output.counts()
    assert counts["right"] == sum(row.label for row in rows) and counts["wrong"] == len(rows) - counts["right"] > 0


def test_the_wrong_steps_are_the_first_wrong_lines(inputs, made: list[Problem]) -> None:
    output = build("step_bce", inputs)
    rows = LabelledExample.from_table(output.read())
    by_id = {p.id: p for p in made}
    wrong = [row for row in rows if not row.label]
    assert len(wrong) >= 20 and len({row.trace_id for row in wrong}) == len(wrong)
    text = {t.id: t.text for t in Trace.from_table(inputs["sampling"].read())}
    exact = [first_wrong_line(by_id[r.problem_id], text[r.trace_id]) == r.prompt.count("\n") - 1 for r in wrong]
    assert sum(exact) >= 0.8 * len(wrong)
    assert loaded(output) == [{"prompt": r.prompt, "completion": r.completion, "label": r.label} for r in rows]


@pytest.mark.parametrize("method", ["kto", "negatives", "step_bce"])
def test_training_takes_the_rows(inputs, method: str) -> None:
    output = build(method, inputs, "train")
    training = find(method).training
    assert training is not None
    dataset = load(output, 512, training(steps=1))
    assert len(dataset) == output.counts()["examples"] and not dataset.skipped
    assert dataset.labels is not None and dataset.labels.sum() == output.counts()["right"]


def test_what_they_need(tmp_path: Path) -> None:
    runs = {"a": {"method": "kto", "steps": 1}, "b": {"method": "negatives", "steps": 1}}
    names = {stage.name for stage in stages_of(world.recipe().model_copy(update={"runs": runs, "credit": None}))}
    assert {"datasets/a", "training/a", "training/b"} <= names and "credit/base" not in names
    runs = {"c": {"method": "step_bce", "steps": 1}}
    assert "credit/base" in {stage.name for stage in stages_of(world.recipe().model_copy(update={"runs": runs}))}
    with pytest.raises(UserError, match="needs step values: add a credit part"):
        stages_of(world.recipe().model_copy(update={"runs": runs, "credit": None}))
