"""The scheduler: order, reuse, resume, failures and locks, with stages that only write small shards."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

import app.pipeline as pipeline
from app.errors import UserError
from app.plan import plan, table
from app.recipe import Recipe
from app.run_lock import run_lock
from app.run_status import OverBudget
from app.settings import Prices, Rates
from app.stage import Stage, StageContext

RECIPE = Recipe.model_validate(
    {"name": "t", "problems": {"source": {"kind": "world"}, "train": 1, "validation": 1, "test": 1}}
)


def writer(calls: list[str], shards: int = 2, fail_at: int | None = None) -> Callable[[StageContext], None]:
    def run(context: StageContext) -> None:
        calls.append(context.stage.name)
        for index in context.pending(shards):
            if index == fail_at:
                raise RuntimeError("machine lost")
            context.output.write_shard(index, pa.table({"id": [f"{context.stage.name}-{index}"]}), {"rows": 1.0})

    return run


def chain(calls: list[str], **changed: object) -> list[Stage]:
    return [
        Stage("a", writer(calls), {"x": changed.get("x", 1)}),
        Stage("b", writer(calls), {"y": changed.get("y", 1)}, {"in": "a"}),
        Stage("c/d", writer(calls), {}, {"in": "a"}),
        Stage("e", writer(calls), {}, {"one": "b", "other": "c/d"}),
    ]


def go(
    monkeypatch: pytest.MonkeyPatch, stages: list[Stage], root: Path, recipe: Recipe = RECIPE, only: str | None = None
):
    monkeypatch.setattr(pipeline, "build", lambda _recipe: stages)
    return pipeline.run(recipe, str(root), only)


def test_inputs_come_first_and_a_second_run_does_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []
    steps = go(monkeypatch, chain(calls), tmp_path)
    assert calls == ["a", "b", "c/d", "e"]
    assert {step.state for step in steps} == {"done"}
    go(monkeypatch, chain(calls), tmp_path)
    assert len(calls) == 4


def test_a_manifest_says_what_was_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    steps = go(monkeypatch, chain([]), tmp_path)
    manifest = steps[1].output.manifest()
    assert manifest["inputs"] == {"in": steps[0].output.key} and manifest["folders"] == {"in": "a"}
    assert (manifest["rows"], manifest["counts"], manifest["shards"]) == (2, {"rows": 2.0}, 2)
    assert manifest["digest"] == steps[1].output.written().digest


def test_a_changed_setting_runs_only_what_lies_below(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []
    go(monkeypatch, chain(calls), tmp_path)
    calls.clear()
    go(monkeypatch, chain(calls, y=2), tmp_path)
    assert calls == ["b", "e"]


def test_the_plan_names_the_field_that_made_the_difference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    go(monkeypatch, chain([]), tmp_path)
    steps = plan(chain([], y=2), str(tmp_path))
    assert [step.state for step in steps] == ["done", "new", "done", "new"]
    assert steps[1].changed == ("y: 1 -> 2",)
    assert steps[3].changed == ("input b",)
    assert "because y: 1 -> 2" in table(RECIPE, steps)


def test_a_failed_stage_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []
    broken = [Stage("a", writer(calls, shards=3, fail_at=2), {})]
    with pytest.raises(RuntimeError, match="machine lost"):
        go(monkeypatch, broken, tmp_path)
    step = plan(broken, str(tmp_path))[0]
    assert (step.state, step.shards) == ("partial", 2)
    before = (tmp_path / "a" / step.output.key / "part-00000.parquet").stat().st_mtime_ns
    [step] = go(monkeypatch, [Stage("a", writer(calls, shards=3), {})], tmp_path)
    assert step.state == "done"
    assert (tmp_path / "a" / step.output.key / "part-00000.parquet").stat().st_mtime_ns == before


def test_nothing_starts_after_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []
    stages = chain(calls)
    stages[0] = Stage("a", writer(calls, fail_at=0), {})
    with pytest.raises(RuntimeError):
        go(monkeypatch, stages, tmp_path)
    assert calls == ["a"]


def test_a_spent_budget_stops_the_run_with_a_report_of_what_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Training is dear here and nothing else costs anything."""
    calls: list[str] = []
    told: list[list[str]] = []
    dear = threading.Event()

    def train(context: StageContext) -> None:
        dear.wait()
        writer(calls)(context)

    def report(context: StageContext) -> None:
        told.append(sorted(context.inputs))
        context.output.write_shard(0, pa.table({"id": ["x"]}))

    stages = [
        Stage("evaluation/base", writer(calls), {}),
        Stage("training/sft", train, {}, {"in": "evaluation/base"}),
        Stage("report", report, {}, {name: name for name in ("evaluation/base", "training/sft")}),
    ]
    prices = Prices(currency="EUR", trainer=Rates(cpu_hour=1e12), budget=1)
    with pytest.raises(UserError, match=r"cost [\d,.]+ EUR of the 1.00 EUR that prices.budget allows"):
        go(monkeypatch, stages, tmp_path, RECIPE.model_copy(update={"prices": prices}))
    assert (calls, told) == (["evaluation/base"], [["evaluation/base"]])
    assert json.loads((tmp_path / "progress.json").read_text())["state"] == "stopped"
    with pytest.raises(UserError, match="prices.budget"):  # nor does it begin again
        go(monkeypatch, stages, tmp_path, RECIPE.model_copy(update={"prices": prices}))
    dear.set()
    steps = go(
        monkeypatch, stages, tmp_path, RECIPE.model_copy(update={"prices": prices.model_copy(update={"budget": None})})
    )
    assert {step.state for step in steps} == {"done"}


def test_a_failure_is_told_before_a_spent_budget() -> None:
    def spent() -> None:
        raise OverBudget("spent")

    journal = SimpleNamespace(running={"sampling/base": None}, check_budget=spent)
    scheduler = pipeline._Scheduler(RECIPE, [], set(), journal, SimpleNamespace())  # type: ignore[arg-type]
    with pytest.raises(OverBudget):
        scheduler._check_budget()
    scheduler.failure = RuntimeError("machine lost")
    scheduler._check_budget()


def test_independent_stages_run_side_by_side(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    meeting = threading.Barrier(2, timeout=20)  # passes only when both stages are running

    def meet(context: StageContext) -> None:
        meeting.wait()
        context.output.write_shard(0, pa.table({"id": ["x"]}))

    wide = RECIPE.model_copy(update={"placement": RECIPE.placement.model_copy(update={"concurrent_stages": 2})})
    steps = go(monkeypatch, [Stage("a", meet, {}), Stage("b", meet, {})], tmp_path, wide)
    assert {step.state for step in steps} == {"done"}


STAGES_AT_ONCE = """
import sys, threading
import pyarrow as pa
import app.pipeline as pipeline
from app.recipe import Recipe
from app.stage import Stage

meeting = threading.Barrier(8, timeout=60)

def run(context):
    from app.rendering import Renderer
    from app.policy import WORLD_MODEL
    meeting.wait()
    Renderer(str(WORLD_MODEL), context.recipe.rendering)
    context.output.write_shard(0, pa.table({"id": ["x"]}))

stages = [Stage(f"datasets/{n}", run, {"n": n}) for n in range(8)]
pipeline.build = lambda _: stages
place = {"concurrent_stages": 8}
problems = {"source": {"kind": "world"}, "train": 1, "validation": 1, "test": 1}
steps = pipeline.run(Recipe.model_validate({"name": "t", "problems": problems, "placement": place}), sys.argv[1])
assert {step.state for step in steps} == {"done"}
assert "transformers" in sys.modules
"""


@pytest.mark.timeout(300)
def test_many_stages_may_load_their_tokenizers_at_once(tmp_path: Path) -> None:
    """In a process of its own: transformers is imported once."""
    for attempt in range(2):
        command = [sys.executable, "-c", STAGES_AT_ONCE, str(tmp_path / str(attempt))]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
        assert done.returncode == 0, done.stderr[-3000:]


def test_only_runs_one_stage_and_wants_its_inputs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []
    with pytest.raises(UserError, match="its input a has not run"):
        go(monkeypatch, chain(calls), tmp_path, only="b")
    go(monkeypatch, chain(calls), tmp_path, only="a")
    go(monkeypatch, chain(calls), tmp_path, only="c")
    assert calls == ["a", "c/d"]
    with pytest.raises(UserError, match=r"--only ee: no such stage in this recipe \(did you mean 'e'"):
        go(monkeypatch, chain(calls), tmp_path, only="ee")


def test_two_runs_on_one_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with run_lock(str(tmp_path)), pytest.raises(UserError, match="in use by pid"):
        go(monkeypatch, chain([]), tmp_path)
    go(monkeypatch, chain([]), tmp_path)
