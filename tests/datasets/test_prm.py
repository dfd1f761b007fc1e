"""Step labels and their export as stepwise supervision."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.credit.problem import credit_problem
from app.credit.settings import CreditSettings
from app.datasets.prm import StepLabel, hard_labels, step_labels, stepwise
from app.datasets.settings import PrmSettings
from app.datasets.stage import run
from app.methods import find
from app.progress import Progress
from app.records import StepValue, Trace
from app.stage import Stage, StageContext
from app.store import Output
from app.tokens import TokenText
from tests.credit import student as world
from tests.credit.bernoulli import PROBLEM, Bernoulli, decode, right, sampler, wrong
from tests.credit.test_right_traces import solved


def row(step: int, correct: int | None, pit: bool = False) -> StepValue:
    """A row of a step with so many right of 4 rollouts, or none at all."""
    q = None if correct is None else correct / 4
    judged = 0 if correct is None else 4
    return StepValue("t-0", "p-1", step, step - 1, step, "x\n", correct or 0, judged, q, 0.0, 1.0, None, pit)


@pytest.mark.parametrize(
    ("correct", "pit", "labels"),
    [
        ([3, 1, 0, 0], 3, [True, True, False, False]),
        ([None, 1, None, 0], 3, [True, True, False, False]),  # a way on from step 2 is one from step 1 too
        ([None, None, None, 0], 3, [True, True, False, False]),  # by the pit alone
        ([3, 0, 2, 0], 2, [True, True, True, False]),  # step 2 had bad luck: the same problem was solved from step 3
        ([3, None, None, 0], None, [True, None, None, False]),
        ([0, None, 0], None, [False, False, False]),
        ([0, None, 0, 0], 3, [False, False, False, False]),  # unlucky rollouts overrule the pit
    ],
)
def test_hard_labels(correct: list[int | None], pit: int | None, labels: list[bool | None]) -> None:
    assert hard_labels([row(i, c, i == pit) for i, c in enumerate(correct, 1)]) == labels


@given(st.lists(st.none() | st.integers(0, 4), min_size=1, max_size=9), st.data())
def test_good_steps_come_first(correct: list[int | None], data: st.DataObject) -> None:
    pit = data.draw(st.none() | st.integers(1, len(correct)))
    labels = hard_labels([row(i, c, i == pit) for i, c in enumerate(correct, 1)])
    assert all(labels[: max((i for i, label in enumerate(labels) if label), default=0)])
    for count, label in zip(correct, labels, strict=True):
        assert label is not None or (count is None and pit is None)
        assert label or not count


def credited(**settings):
    samples = [wrong(6), right(1), solved(4, 2)]
    how = CreditSettings.model_validate({"correct_traces": 2, **settings})
    engine = Bernoulli([1, 1, 1, 0, 0, 0])
    found = asyncio.run(credit_problem(PROBLEM, samples, sampler(engine), TokenText(decode), how, True))
    values: dict[str, list[StepValue]] = {}
    for value in found.values:
        values.setdefault(value.trace_id, []).append(value)
    return [label for trace, _ in samples for label in step_labels(trace, values[trace.id], "Q?")], samples


@pytest.mark.parametrize("search", ["adaptive", "binary", "exhaustive"])
def test_labels_are_ranges_of_the_trace(search: str) -> None:
    labels, samples = credited(search=search)
    assert StepLabel.from_table(StepLabel.table(labels)) == labels
    for trace, _ in samples:
        mine = [label for label in labels if label.trace_id == trace.id]
        assert [token for label in mine for token in label.step_token_ids] == trace.token_ids
        assert "".join(label.text for label in mine) == trace.text
        for label in mine:
            assert (
                label.prefix_token_ids[len(trace.prompt_token_ids) :]
                == trace.token_ids[: len(label.prefix_token_ids) - len(trace.prompt_token_ids)]
            )
            assert decode(label.prefix_token_ids) == "Q?" + label.prefix
            assert label.soft is None or label.soft == label.correct / label.judged
    assert [label.hard for label in labels if label.trace_id == "t-0"] == [True, True, False, False, False, False]
    assert all(label.hard for label in labels if label.trace_id == "t-1")


def test_stepwise_supervision() -> None:
    labels, _ = credited(search="exhaustive")
    wrong_one = stepwise(labels).to_pylist()[0]
    assert wrong_one["prompt"] == "Q?"
    assert wrong_one["completions"] == [f"step {i} of 0" for i in range(1, 6)] + ["#### 0"]
    assert wrong_one["labels"] == [True, True, False, False, False, False]
    assert wrong_one["soft_labels"] == [1, 1, 0, 0, 0, 0]
    open_one = step_labels(wrong(2)[0], [row(1, None), row(2, 0)], "Q?")
    assert stepwise(open_one).num_rows == 0


@pytest.mark.parametrize("right_traces", [True, False])
def test_the_stage_writes_what_datasets_loads(tmp_path: Path, right_traces: bool) -> None:
    import datasets

    from app.credit.stage import CreditWorker

    made = world.problems()
    student = world.Student(made, world.renderer())
    recipe = world.recipe(credit={"correct_traces": 1})
    inputs = asyncio.run(world.sampled(tmp_path, student, made, recipe))
    inputs["credit"] = Output(str(tmp_path), "credit", "k")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CreditWorker, "start_engine", lambda self: student)
        worker = world.credit_worker(recipe, inputs, inputs["credit"])
    for shard in range(3):
        asyncio.run(worker.process(shard))
    output = Output(str(tmp_path), "datasets/prm", "k")
    options = {"method": find("prm"), "data": PrmSettings(right_traces=right_traces)}
    stage = Stage("datasets/prm", run, {}, {role: role for role in inputs}, options=options)
    run(StageContext(stage, recipe, inputs | {"held_out": inputs["problems"]}, output, Progress("test", io.StringIO())))

    labels = StepLabel.from_table(output.read())
    traces = {t.id: t for t in Trace.from_table(inputs["sampling"].read())}
    values = StepValue.from_table(inputs["credit"].read())
    wanted = {v.trace_id for v in values if right_traces or not v.right}
    assert {label.trace_id for label in labels} == wanted and {v.right for v in values} == {True, False}
    for name in wanted:
        joined = [token for label in labels if label.trace_id == name for token in label.step_token_ids]
        assert joined == traces[name].token_ids
    files = {"parquet": output.shard_path(0, "trl"), "json": f"{output.uri}/trl.jsonl"}
    both = [
        datasets.load_dataset(kind, data_files=file, split="train", cache_dir=str(tmp_path / "cache"))
        for kind, file in files.items()
    ]
    assert both[0].to_list() == both[1].to_list() == stepwise(labels).to_pylist()
    for example in both[0]:
        assert len(example["completions"]) == len(example["labels"]) == len(example["soft_labels"])
        assert not any("\n" in step for step in example["completions"])
    counts = output.counts()
    assert counts["steps"] == len(labels) and counts["traces"] == len(wanted)
    assert counts["hard_right"] <= counts["labelled_hard"] <= counts["steps"] >= counts["labelled_soft"] > 0
