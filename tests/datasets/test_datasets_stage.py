"""The four data set stages over real files, from a scripted student's traces to what TRL and `datasets` load."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.datasets.diversity import signature
from app.datasets.selection import doubtful, right_traces
from app.datasets.settings import RftSettings
from app.datasets.stage import run
from app.errors import UserError
from app.methods import find
from app.progress import Progress
from app.records import Example, PreferencePair, Problem, StepValue, Trace, Verdict
from app.stage import Stage, StageContext
from app.store import Output
from benchmarks.world_oracle import first_wrong_line
from tests.credit import student as world
from tests.credit.bernoulli import trace, verdict


@pytest.fixture(scope="module")
def made() -> list[Problem]:
    return world.problems()


@pytest.fixture(scope="module")
def inputs(made: list[Problem], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Output]:
    """Outputs of problems, sampling, verification and credit."""
    folder = tmp_path_factory.mktemp("run")
    student = world.Student(made, world.renderer())
    outputs = asyncio.run(world.sampled(folder, student, made, world.recipe()))
    credit = Output(str(folder), "credit", "k")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.sampling.stage.create", lambda *args, **kwargs: student)
        worker = world.credit_worker(world.recipe(), outputs, credit)
    for shard in range(3):
        asyncio.run(worker.process(shard))
    return {**outputs, "credit": credit}


def build(method: str, inputs: dict[str, Output], name: str = "k", **settings) -> Output:
    output = Output(inputs["problems"].root, f"datasets/{method}", name)
    known = find(method)
    options = {"method": known, "data": known.data.model_validate(settings)}
    stage = Stage(f"datasets/{method}", run, {}, {role: role for role in inputs}, options=options)
    given = {"held_out": inputs["problems"], **inputs}
    run(StageContext(stage, world.recipe(), given, output, Progress("test", io.StringIO())))
    return output


def loaded(output: Output) -> list[dict[str, str]]:
    """The export as a user of `datasets` gets it; JSONL and Parquet must agree."""
    import datasets

    files = {"parquet": output.shard_path(0, "trl"), "json": f"{output.uri}/trl.jsonl"}
    cache = f"{output.uri}/cache"
    both = [datasets.load_dataset(kind, data_files=f, split="train", cache_dir=cache) for kind, f in files.items()]
    assert both[0].to_list() == both[1].to_list()
    return both[0].to_list()


def test_sft_is_every_teacher_solution(inputs, made: list[Problem]) -> None:
    output, render = build("sft", inputs), world.renderer()
    examples = Example.from_table(output.read())
    train = {p.id: p for p in made if p.split == "train"}
    assert [e.problem_id for e in examples] == sorted(train)
    for example in examples:
        problem = train[example.problem_id]
        assert example.completion_token_ids[-1] == render.end_id and example.trace_id is None
        assert render.decode(example.completion_token_ids) == example.completion == problem.solution
        assert render.decode(example.prompt_token_ids) == example.prompt == problem.statement + "\n"
    assert loaded(output) == [{"prompt": e.prompt, "completion": e.completion} for e in examples]
    assert output.counts()["examples"] == 12 and output.counts()["without_solution"] == 0


def test_rft_keeps_the_teacher_and_distinct_correct_traces(inputs, made: list[Problem]) -> None:
    sft = build("sft", inputs)
    output = build("rft", {**inputs, "teacher": sft}, per_problem=2)
    examples = Example.from_table(output.read())
    own = [e for e in examples if e.trace_id]
    assert [e.id for e in examples if not e.trace_id] == [e.id for e in Example.from_table(sft.read())]
    traces = {t.id: t for t in Trace.from_table(inputs["sampling"].read())}
    verdicts = {v.trace_id: v for v in Verdict.from_table(inputs["verification"].read())}
    by_problem: dict[str, set[str]] = {}
    for example in own:
        assert verdicts[example.trace_id].correct
        assert example.completion_token_ids == traces[example.trace_id].token_ids
        listed = by_problem.setdefault(example.problem_id, set())
        assert signature(example.completion) not in listed
        listed.add(signature(example.completion))
    solved = {t.problem_id for t in traces.values() if verdicts[t.id].correct}
    assert set(by_problem) == solved and max(len(s) for s in by_problem.values()) <= 2
    alone = Example.from_table(build("rft", inputs, "alone", per_problem=2, teacher=False).read())
    assert alone == own
    assert len(loaded(output)) == len(examples)


def test_rft_without_traces_in_doubt(inputs, made: list[Problem]) -> None:
    """Of three right traces of one problem one has a wrong sum, one a sharp drop, one too little progress."""
    problem = min(p for p in (p.id for p in made if p.split == "train"))
    texts = ["1 + 1 = 3\n#### 2", "2 + 2 = 4\n#### 2", "3 + 3 = 6\n#### 2", "4 + 4 = 8\n#### 2"]
    right = [replace(trace(text, n), problem_id=problem) for n, text in enumerate(texts)]
    samples = [(one, verdict(one, "correct")) for one in right]

    def row(of: Trace, step: int, note: str = "") -> StepValue:
        return StepValue(of.id, problem, step, 0, 1, "x", 1, 2, 0.5, 0, 1, 0.0, False, right=True, note=note)

    values = [row(right[1], 1, "sharp_drop"), row(right[1], 2), row(right[2], 1, "no_progress"), row(right[2], 2)]

    def left_out(**settings) -> dict[str, str]:
        return doubtful(samples, values, RftSettings.model_validate(settings))

    assert left_out() == {}
    assert left_out(drop_wrong_sums=True) == {"t-0": "wrong_sums"}
    assert left_out(drop_lucky_wrong=True) == {"t-1": "lucky_wrong"}
    assert left_out(max_no_progress=0.5) == {} and left_out(max_no_progress=0.4) == {"t-2": "no_progress"}
    everything = {"drop_wrong_sums": True, "drop_lucky_wrong": True, "max_no_progress": 0.0}
    assert sorted(left_out(**everything)) == ["t-0", "t-1", "t-2"]
    wrong_ones = [(t, verdict(t, "incorrect")) for t in right]
    assert doubtful(wrong_ones, values, RftSettings.model_validate(everything)) == {}


def test_rft_says_how_many_it_left_out(inputs, made: list[Problem], tmp_path: Path) -> None:
    traces = Trace.from_table(inputs["sampling"].read_shard(0))
    right = {v.trace_id for v in Verdict.from_table(inputs["verification"].read_shard(0)) if v.correct}
    lucky = next(t for t in traces if t.id in right)
    doubt = [
        StepValue(lucky.id, lucky.problem_id, n, 0, 1, "x", 1, 2, 0.5, 0, 1, 0.0, False, right=True, note=note)
        for n, note in ((1, "sharp_drop"), (2, ""))
    ]
    credit = Output(str(tmp_path), "credit", "k")
    for shard in range(3):
        credit.write_shard(shard, Trace.table([]), kind="rollouts")
        credit.write_shard(shard, Verdict.table([]), kind="verdicts")
        credit.write_shard(shard, StepValue.table(doubt if shard == 0 else []))
    given = {**inputs, "credit": credit}
    how = {"per_problem": 9, "teacher": False, "drop_lucky_wrong": True}
    output = build("rft", given, "doubt", **how)
    assert output.counts()["left_out_lucky_wrong"] == 1
    assert lucky.id not in {e.trace_id for e in Example.from_table(output.read())}
    assert set(build("rft", inputs, "plain", **{**how, "drop_lucky_wrong": False}).counts()).isdisjoint(
        {"left_out_lucky_wrong"}
    )


def test_dpo_pairs_correct_with_wrong(inputs) -> None:
    output = build("dpo", inputs)
    pairs = PreferencePair.from_table(output.read())
    verdicts = {v.trace_id: v.outcome for v in Verdict.from_table(inputs["verification"].read())}
    assert pairs and {verdicts[p.chosen_trace] for p in pairs} == {"correct"}
    assert {verdicts[p.rejected_trace] for p in pairs} == {"incorrect"}
    assert {p.prefix_tokens for p in pairs} == {0}
    assert loaded(output) == [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs]


def test_step_dpo_branches_at_the_first_wrong_line(inputs, made: list[Problem]) -> None:
    output = build("step_dpo", inputs)
    pairs = PreferencePair.from_table(output.read())
    traces = {t.id: t for t in Trace.from_table(inputs["sampling"].read())}
    by_id, decode = {p.id: p for p in made}, world.renderer().decode
    pits = {v.trace_id for v in StepValue.from_table(inputs["credit"].read()) if v.first_pit}
    exact = 0
    for p in pairs:
        rejected = traces[p.rejected_trace]
        assert rejected.id in pits
        assert p.prompt_token_ids + p.rejected_token_ids == rejected.prompt_token_ids + rejected.token_ids
        assert decode(p.prompt_token_ids) == p.prompt and decode(p.chosen_token_ids) == p.chosen
        assert p.q_before >= 0.25 and p.q_after < p.q_before and p.judged_before >= 1 and p.judged_after >= 1
        assert p.chosen_token_ids[0] != p.rejected_token_ids[0]
        assert p.q_before == p.correct_before / p.judged_before and p.q_after == p.correct_after / p.judged_after
        shared_lines = p.prompt.count("\n") - 1
        exact += shared_lines == first_wrong_line(by_id[p.problem_id], rejected.text)
        assert (p.prompt + p.chosen).endswith(f"\n#### {by_id[p.problem_id].answer}")
    assert len(pairs) >= 10 and exact >= 0.8 * len(pairs)
    assert loaded(output) == [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs]
    counts = output.counts()
    assert counts["pairs"] == len(pairs) <= counts["pits_with_value_before"] <= counts["pits"]


def test_step_dpo_of_the_full_solution(inputs) -> None:
    pairs = PreferencePair.from_table(build("step_dpo", inputs, "full", reading="full-solution").read())
    assert pairs and {p.prefix_tokens for p in pairs} == {0}
    assert all(p.rejected.endswith("\n") or p.rejected.startswith("####") or "####" in p.rejected for p in pairs)


@pytest.mark.parametrize("method", ["sft", "dpo", "step_dpo"])
def test_again_gives_the_same_bytes(inputs, method: str) -> None:
    assert build(method, inputs, "once").written() == build(method, inputs, "twice").written()


def test_a_finished_set_is_left_alone(inputs) -> None:
    output = build("dpo", inputs, "left")
    before = Path(output.shard_path(0)).stat().st_mtime_ns
    assert build("dpo", inputs, "left") == output
    assert Path(output.shard_path(0)).stat().st_mtime_ns == before


# -- mistakes ---------------------------------------------------------------------------------------------------------


def problems_output(folder: Path, problems: list[Problem], stage: str = "problems") -> Output:
    output = Output(str(folder), stage, "k")
    output.write_shard(0, Problem.table(problems))
    return output


def test_an_evaluation_problem_in_the_training_set_is_an_error(tmp_path: Path, made: list[Problem]) -> None:
    leaked = next(p for p in made if p.split == "test")
    twin = replace(leaked, id="p-other", split="train", statement=leaked.statement.upper().replace(" ", "  "))
    with pytest.raises(UserError, match=r"problem p-other .* is a training and an evaluation problem"):
        build("sft", {"problems": problems_output(tmp_path, [*made, twin])})


def test_so_it_is_when_the_training_problems_are_written_ones(tmp_path: Path, made: list[Problem]) -> None:
    leaked = next(p for p in made if p.split == "validation")
    written = problems_output(tmp_path, [replace(leaked, id="s-1", split="train", source="synthesis")], "synthesis")
    with pytest.raises(UserError, match="s-1"):
        build("sft", {"problems": written, "held_out": problems_output(tmp_path, made)})


def test_sets_without_a_row_say_why(tmp_path: Path, made: list[Problem], inputs) -> None:
    bare = [replace(p, solution=None) for p in made]
    with pytest.raises(UserError, match="No training problem has a solution"):
        build("sft", {"problems": problems_output(tmp_path, bare)})
    with pytest.raises(UserError, match="min_q_before"):
        wrong_start = {"credit": Output(str(tmp_path), "credit", "k")}
        for shard in range(3):
            wrong_start["credit"].write_shard(shard, Trace.table([]), kind="rollouts")
            wrong_start["credit"].write_shard(shard, Verdict.table([]), kind="verdicts")
            wrong_start["credit"].write_shard(shard, StepValue.table([]))
        build("step_dpo", {**inputs, **wrong_start}, "none")


def test_a_trace_without_verdict_is_refused(tmp_path: Path, inputs) -> None:
    empty = Output(str(tmp_path), "verification", "k")
    for shard in range(3):
        empty.write_shard(shard, Verdict.table([]))
    with pytest.raises(RuntimeError, match="no verdict of trace"):
        build("dpo", {**inputs, "verification": empty}, "missing")


# -- choosing among own traces ----------------------------------------------------------------------------------------

SOLUTIONS = st.lists(
    st.tuples(st.sampled_from(["1 + 1 = 2", "1+1=2", "2 * 1 = 2", "4 - 2 = 2", "two"]),
              st.sampled_from(["stop", "length"]), st.sampled_from(["correct", "incorrect", "timeout"])),
    max_size=12,
)  # fmt: skip


@given(SOLUTIONS, st.integers(1, 4), st.integers(0, 3), st.data())
def test_right_traces(solutions, k: int, seed: int, data: st.DataObject) -> None:
    samples = []
    for number, (text, finish, outcome) in enumerate(solutions):
        made = trace(text, number, finish)
        samples.append((made, verdict(made, outcome)))
    chosen = right_traces(samples, k, seed)
    usable = {signature(t.text) for t, v in samples if v.correct and t.finish_reason == "stop"}
    assert len(chosen) == min(k, len(usable)) == len({signature(t.text) for t in chosen})
    assert all(v.correct and t.finish_reason == "stop" for t, v in samples if t in chosen)
    assert right_traces(data.draw(st.permutations(samples)), k, seed) == chosen


@pytest.mark.parametrize("leak", ["{}", "  {} ", "{}!!", "« {} »"])
def test_an_evaluation_problem_in_other_punctuation_is_refused(inputs, made: list[Problem], tmp_path, leak) -> None:
    test = next(p for p in made if p.split == "test")
    stolen = replace(next(p for p in made if p.split == "train"), statement=leak.format(test.statement.upper()))
    rows = sorted([*(p for p in made if p.id != stolen.id), stolen], key=lambda p: (p.split, p.id))
    problems = Output(str(tmp_path), "problems", "leak")
    problems.write_shard(0, Problem.table(rows))
    with pytest.raises(UserError, match="is a training and an evaluation problem"):
        build("sft", {"problems": problems})
