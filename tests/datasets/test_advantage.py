"""Steps to imitate: which, as what rows, and that training takes them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.credit.stage import CreditWorker
from app.datasets.advantage import good_steps, step_examples
from app.datasets.pairs import Texts
from app.errors import UserError
from app.graph import build as stages_of
from app.methods import find
from app.records import Example, Problem, StepValue, Trace, Verdict
from app.store import Output
from app.tokens import TokenText
from app.training.dataset import load
from benchmarks.world_oracle import first_wrong_line
from tests.credit import student as world
from tests.credit.bernoulli import END, decode, ids, trace, verdict
from tests.datasets.test_datasets_stage import build, loaded

TEXTS = Texts(TokenText(decode), END, "Q?")
QS = st.lists(st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])), min_size=2, max_size=7)


def valued(qs: list[float | None], number: int = 0, right: bool = False) -> tuple[Trace, list[StepValue]]:
    """A trace of lines with these Q after steps 0, 1, ...; the last line is its answer."""
    lines = [f"s{step}\n" for step in range(1, len(qs) - 1)] + [f"#### {int(right)}"]
    made, rows, start = trace("".join(lines), number), [], 0
    for step, q in enumerate(qs):
        text = lines[step - 1] if step else ""
        end = len(made.token_ids) if step == len(qs) - 1 else start + len(text)
        before = qs[step - 1] if step else None
        gain = None if q is None or before is None else q - before
        judged = 0 if q is None else 4
        rows.append(
            StepValue(
                made.id, made.problem_id, step, start if step else 0, end, text, round(4 * (q or 0)), judged, q, 0.0,
                1.0, gain, False, right=right,
            )
        )  # fmt: skip
        start = end
    return made, rows


def examples(qs, right: bool = False, least: float = 0.05, completion: str = "step", pool=(), weighted: bool = False):
    made, rows = valued(qs, right=right)
    samples = [(made, verdict(made, "correct" if right else "incorrect"))]
    return step_examples(good_steps(rows, least), samples, pool, completion, TEXTS, weighted)


@given(QS, st.sampled_from([-1.0, -0.25, 0.0, 0.05, 0.5]), st.booleans())
def test_a_row_is_a_step_after_all_before_it(qs, least: float, right: bool) -> None:
    made, rows = valued(qs, right=right)
    found = {(e.prompt_token_ids[2:], e.completion_token_ids) for e in map(_hashable, examples(qs, right, least))}
    wanted = [row for row in rows if row.advantage is not None and row.advantage >= least]
    assert found == {(tuple(made.token_ids[: r.start]), tuple(made.token_ids[r.start : r.end])) for r in wanted}
    for example in examples(qs, right, least):
        assert example.prompt == "Q?" + decode(example.prompt_token_ids[2:])
        assert example.completion == decode(example.completion_token_ids) and example.weight == 1


def _hashable(example: Example) -> Example:

    return replace(
        example,
        prompt_token_ids=tuple(example.prompt_token_ids),
        completion_token_ids=tuple(example.completion_token_ids),
    )


@given(QS)
def test_gains_and_losses_of_a_wholly_valued_trace_add_up(qs) -> None:
    """With every step kept, weights and losses sum to what the trace brought from first to last: they telescope."""
    known = [q if q is not None else 0.5 for q in qs]
    _, rows = valued(known)
    gains = [row.advantage for row in good_steps(rows, -1.0)]
    assert len(gains) == len(known) - 1 and sum(gains) == pytest.approx(known[-1] - known[0])


def test_a_weight_is_the_advantage() -> None:
    made = examples([0.25, 0.5, 0.5, 1.0, 0.0], weighted=True)
    assert [(e.completion, e.weight) for e in made] == [("s1\n", 0.25), ("s3\n", 0.5)]


def test_the_last_step_of_a_right_trace_ends_with_the_end_token() -> None:
    (made,) = examples([0.5, 0.5, 1.0], right=True)
    assert made.completion_token_ids == ids("#### 1") and made.prompt == "Q?s1\n"
    engine_left_it_out, rows = valued([0.5, 0.5, 1.0], right=True)
    bare = trace("s1\n#### 1", end=False)

    rows = [replace(row, end=min(row.end, len(bare.token_ids))) for row in rows]
    (again,) = step_examples(good_steps(rows, 0.05), [(bare, verdict(bare, "correct"))], [], "step", TEXTS)
    assert again.completion_token_ids == made.completion_token_ids and engine_left_it_out.id == bare.id


def test_the_rest_is_a_right_one() -> None:
    (own,) = examples([0.5, 1.0, 1.0, 1.0], right=True, completion="rest")
    assert own.completion == "s1\ns2\n#### 1" and own.completion_token_ids[-1] == END
    long, short = trace("s1\nlong way\n#### 1", 5), trace("s1\nway\n#### 1", 6)
    bad, other = trace("s1\n#### 0", 7), trace("x\n#### 1", 8)
    pool = [(t, verdict(t, "correct")) for t in (long, short, other)] + [(bad, verdict(bad, "incorrect"))]
    (wrong_one,) = examples([0.5, 1.0, 0.0, 0.0], completion="rest", pool=pool)
    assert wrong_one.completion == "s1\nway\n#### 1" and wrong_one.completion_token_ids[-1] == END
    assert examples([0.5, 1.0, 0.0, 0.0], completion="rest", pool=pool[2:]) == []


def test_a_step_that_traces_share_is_taken_once() -> None:
    one, rows = valued([0.5, 1.0, 0.0])
    two, more = valued([0.5, 1.0, 0.0], 1)
    samples = [(t, verdict(t, "incorrect")) for t in (two, one)]
    made = step_examples(good_steps([*more, *rows], 0.05), samples, [], "step", TEXTS)
    assert [e.trace_id for e in made] == [one.id]


# -- the stage --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made() -> list[Problem]:
    return world.problems()


@pytest.fixture(scope="module")
def inputs(made: list[Problem], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Output]:
    """A scripted student's samples with credit of wrong and of right traces."""
    folder, recipe = tmp_path_factory.mktemp("run"), world.recipe(credit={"correct_traces": 2})
    student = world.Student(made, world.renderer())
    outputs = asyncio.run(world.sampled(folder, student, made, recipe))
    credit = Output(str(folder), "credit", "k")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CreditWorker, "start_engine", lambda self: student)
        worker = world.credit_worker(recipe, outputs, credit)
    for shard in range(3):
        asyncio.run(worker.process(shard))
    return {**outputs, "credit": credit}


def test_steps_of_wrong_traces_are_those_before_the_first_wrong_line(inputs, made: list[Problem]) -> None:
    output = build("advantage_sft", inputs)
    rows = Example.from_table(output.read())
    traces = {t.id: t for t in Trace.from_table(inputs["sampling"].read())}
    correct = {v.trace_id: v.correct for v in Verdict.from_table(inputs["verification"].read())}
    by_id = {p.id: p for p in made}
    assert {correct[row.trace_id] for row in rows} == {True, False}
    before = wrong = 0
    for row in rows:
        of = traces[row.trace_id]
        both = row.prompt_token_ids + row.completion_token_ids
        assert both == (of.prompt_token_ids + of.token_ids)[: len(both)] and row.weight == 1
        if not correct[of.id]:
            line = row.prompt.count("\n") - 1
            wrong += 1
            before += line < first_wrong_line(by_id[of.problem_id], of.text)
    assert wrong >= 10 and before >= 0.9 * wrong
    counts = output.counts()
    assert counts["examples"] == len(rows) <= counts["steps_good"] < counts["steps_valued"]
    assert 0 < counts["steps_good_of_wrong_traces"] < counts["steps_good"]
    assert loaded(output) == [{"prompt": row.prompt, "completion": row.completion} for row in rows]


def test_the_weighted_set_has_the_same_steps(inputs) -> None:
    plain = Example.from_table(build("advantage_sft", inputs, "plain").read())
    weighted = Example.from_table(build("advantage_nll", inputs, "weighted").read())
    gains = {(v.trace_id, v.start): v.advantage for v in StepValue.from_table(inputs["credit"].read()) if v.step}
    bare = {p: len(t.prompt_token_ids) for t in Trace.from_table(inputs["sampling"].read()) for p in [t.id]}
    assert [e.id for e in weighted] == [e.id for e in plain]
    for example in weighted:
        start = len(example.prompt_token_ids) - bare[example.trace_id]
        assert example.weight == gains[example.trace_id, start] >= 0.05


def test_whole_rests_end_right(inputs, made: list[Problem]) -> None:
    answers = {p.id: p.answer for p in made}
    rows = Example.from_table(build("advantage_sft", inputs, "rest", completion="rest").read())
    assert rows and all(row.completion.endswith(f"#### {answers[row.problem_id]}") for row in rows)
    assert {row.completion_token_ids[-1] for row in rows} == {world.renderer().end_id}


@pytest.mark.parametrize("method", ["advantage_sft", "advantage_nll"])
def test_training_takes_the_rows(inputs, method: str) -> None:
    output = build(method, inputs, "train")
    corpus = load(output, 512)
    assert len(corpus) == output.counts()["examples"] and not corpus.skipped and min(corpus.weights) > 0
    whole = corpus.rows(range(len(corpus)))  # steps of one problem grow on one trunk
    assert whole.sequences == len(corpus)


def test_no_step_is_good_enough(inputs) -> None:
    with pytest.raises(UserError, match="lower the run's min_advantage"):
        build("advantage_sft", inputs, "none", min_advantage=1)


def test_they_need_credit(tmp_path: Path) -> None:
    recipe = world.recipe().model_copy(update={"runs": {"a": {"method": "advantage_nll", "steps": 1}}})
    names = {stage.name for stage in stages_of(recipe)}
    assert {"credit/base", "datasets/a", "training/a", "evaluation/a"} <= names
    with pytest.raises(UserError, match="needs step values: add a credit part"):
        stages_of(recipe.model_copy(update={"credit": None}))
    with pytest.raises(ValueError, match="greater than 0"):
        find("advantage_nll").data.model_validate({"min_advantage": 0})
