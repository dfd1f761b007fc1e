"""The status of a run, from made-up files of every state."""

from __future__ import annotations

import datetime
import fcntl
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

from app.graph import build
from app.plan import keys_of
from app.recipe import Recipe
from app.records import Problem
from app.run_lock import run_lock
from app.settings import Prices
from app.store import Output
from jobs.status import Line, find_recipe, in_use, main, status, summary, table

BODY = {
    "name": "made-up",
    "problems": {"train": 40, "validation": 5, "test": 30},
    "sampling": {"samples": 2, "problems_per_shard": 10},
    "runs": {"sft": {"method": "sft", "steps": 8, "batch": 4}},
    "evaluation": {"problems_per_shard": 10},
}


class Run:
    """Files of a run, stage by stage."""

    def __init__(self, root: Path) -> None:
        self.recipe, self.root = Recipe.model_validate(BODY), str(root)
        self.keys = keys_of(build(self.recipe))
        self.start = 1_700_000_000.0

    def output(self, stage: str) -> Output:
        return Output(self.root, stage, self.keys[stage])

    def shards(self, stage: str, count: int, every: float = 10.0, tokens: float = 100.0) -> None:
        for index in range(count):
            self.output(stage).write_shard(index, pa.table({"x": [1]}), {"tokens": tokens})
            when = self.start + every * index
            os.utime(self.output(stage).shard_path(index), (when, when))

    def finish(self, stage: str, seconds: float = 12.0) -> None:
        output = self.output(stage)
        shards = len(output.done_shards())
        told = {"shards": shards, "counts": output.counts(), "seconds": seconds, "finished": "2026-05-01T10:00:00"}
        output.finish(told | {"settings": {}, "inputs": {}, "revision": 1})

    def problems(self) -> None:
        rows = [
            Problem(f"{split}{i}", "s", "1", split, "t") for split, n in (("train", 40), ("test", 30)) for i in range(n)
        ]
        self.output("problems").write_shard(0, Problem.table(rows))
        self.finish("problems")

    def lines(self, running: bool = True) -> dict[str, Line]:
        return {line.stage: line for line in status(self.recipe, self.root, running)}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "made-up")


def test_a_run_that_has_not_begun(run: Run) -> None:
    lines = run.lines()
    assert [line.stage for line in lines.values()] == [stage.name for stage in build(run.recipe)]
    assert {(line.state, line.done, line.left) for line in lines.values()} == {("pending", 0, None)}


def test_a_finished_stage_tells_its_cost(run: Run) -> None:
    run.problems()
    run.shards("sampling/base", 4)
    run.finish("sampling/base", seconds=75)
    line = run.lines()["sampling/base"]
    assert (line.state, line.done, line.total, line.tokens, line.seconds) == ("done", 4, 4, 400, 75)


def test_a_running_stage_tells_its_rate_and_what_is_left(run: Run) -> None:
    run.problems()
    run.shards("sampling/base", 3, every=20.0)
    line = run.lines()["sampling/base"]
    assert (line.state, line.done, line.total, line.tokens) == ("running", 3, 4, 300)
    assert line.rate == pytest.approx(1 / 20) and line.left == pytest.approx(20)


def test_a_stopped_stage_promises_nothing(run: Run) -> None:
    run.problems()
    run.shards("sampling/base", 3)
    line = run.lines(running=False)["sampling/base"]
    assert line.state == "stopped" and line.left is None


def test_one_shard_is_no_rate(run: Run) -> None:
    run.problems()
    run.shards("sampling/base", 1)
    line = run.lines()["sampling/base"]
    assert line.rate is None and line.left is None and line.state == "running"


def test_the_rate_forgets_an_earlier_stop(run: Run) -> None:
    run.problems()
    output = run.output("evaluation/base")
    run.shards("evaluation/base", 25, every=5.0)
    os.utime(output.shard_path(0), (run.start - 90_000, run.start - 90_000))
    assert run.lines()["evaluation/base"].rate == pytest.approx(1 / 5)


def test_shards_that_will_be_follow_from_the_inputs(run: Run) -> None:
    before = run.lines()
    assert before["sampling/base"].total is before["verification/base"].total is before["evaluation/sft"].total is None
    run.problems()
    assert run.lines()["sampling/base"].total == 4 and run.lines()["evaluation/sft"].total == 3
    assert run.lines()["verification/base"].total is None
    run.shards("sampling/base", 4)
    run.finish("sampling/base")
    assert run.lines()["verification/base"].total == 4


def test_training_counts_optimiser_steps(run: Run) -> None:
    output = run.output("training/sft")
    output.local().mkdir(parents=True)
    rows = [{"step": i + 1, "seconds": 0.5, "tokens": 64, "loss": 1.0} for i in range(6)]
    output.local("metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = run.lines()["training/sft"]
    assert (line.done, line.total, line.unit, line.tokens) == (6, 8, "steps", 384)
    assert line.rate == pytest.approx(2) and line.left == pytest.approx(1)
    assert line in status(run.recipe, f"file://{run.root}", True)


def test_datasets_hold_tokens_but_spend_none(run: Run) -> None:
    run.shards("datasets/sft", 1)
    run.finish("datasets/sft")
    assert run.lines()["datasets/sft"].tokens == 0


def test_table(run: Run) -> None:
    run.problems()
    run.shards("sampling/base", 3, every=20.0, tokens=1000)
    text = table(status(run.recipe, run.root, True)).split("\n")
    sampling = next(line for line in text if line.startswith("sampling/base"))
    assert sampling.split() == ["sampling/base", "running", "3/4", "shards", "3k", "3", "0:20", "–"]
    assert len({len(line) for line in text}) == 1  # columns are aligned
    lines = status(run.recipe, run.root, True)
    assert summary(lines, run.root, True, "") == f"running: 1 of {len(lines)} stages done, 3k tokens"


def test_cost_so_far(run: Run) -> None:
    """Of a stage that runs, from its sessions: one that was killed counts to its last heartbeat."""
    recipe = run.recipe.model_copy(update={"prices": Prices(currency="EUR", cpu_hour=3.6)})
    run.problems()
    run.shards("sampling/base", 3)
    entries = [
        {"started": "x", "seconds": 100.0, "cpus": 4, "gpus": 0},
        {"started": "y", "seconds": 50.0, "cpus": 2, "gpus": 0},
    ]
    run.output("sampling/base").write_json("sessions.json", entries)
    lines = status(recipe, run.root, True)
    (line,) = [line for line in lines if line.stage == "sampling/base"]
    assert (line.seconds, line.cost) == (150.0, pytest.approx(0.5))
    text = table(lines, "EUR").split("\n")
    assert text[0].endswith("cost, EUR") and len({len(row) for row in text}) == 1
    assert next(row for row in text if row.startswith("sampling/base")).endswith("2 min 30 s      0.500")
    assert "0.500 EUR so far" in summary(lines, run.root, True, "EUR")


@pytest.mark.parametrize(
    ("state", "said"), [("failed", "failed: "), ("stopped", "not running: "), ("running", "not running: ")]
)
def test_a_run_that_ended_says_how(run: Run, state: str, said: str) -> None:
    run.problems()
    told = {"state": state, "updated": "2026-05-01T10:00:00.000+00:00"}
    Output(run.root, "", "").write_json("progress.json", told)
    text = summary(status(run.recipe, run.root, False), run.root, False, "")
    assert text.startswith(said) and "last written" in text and text.endswith(" ago")


@pytest.mark.parametrize(
    ("state", "seconds", "expected"), [("running", 10, True), ("running", 1000, False), ("done", 10, False)]
)
def test_a_remote_run_is_in_use_while_its_journal_is_fresh(
    run: Run, monkeypatch: pytest.MonkeyPatch, state: str, seconds: int, expected: bool
) -> None:
    when = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
    root = f"file://{run.root}"
    assert not in_use(root)
    Output(root, "", "").write_json("progress.json", {"state": state, "updated": when.isoformat()})
    assert in_use(root) == expected


def test_in_use_sees_the_lock_of_a_running_process(tmp_path: Path) -> None:
    root = str(tmp_path / "run")
    assert not in_use(root)
    with run_lock(root):
        assert in_use(root)
    assert not in_use(root)


def test_in_use_does_not_hold_the_lock(tmp_path: Path) -> None:
    root = str(tmp_path / "run")
    with run_lock(root):
        pass
    in_use(root)
    with (tmp_path / "run" / ".lock").open() as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_main_reads_the_runs_own_recipe(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.problems()
    Output(run.root, "", "").write_json("recipe.json", run.recipe.model_dump(mode="json"))
    assert main([run.root]) == 0
    assert "problems               done" in capsys.readouterr().out
    assert find_recipe(run.root, None, []) == run.recipe


@pytest.mark.parametrize(
    ("make", "message"), [(False, "no such run; give its folder"), (True, "give the recipe of this run with --recipe")]
)
def test_main_without_a_recipe(tmp_path: Path, make: bool, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    if make:
        (tmp_path / "run").mkdir()
    assert main([str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err


def test_main_with_a_recipe_file(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run.problems()
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(BODY))
    assert main([run.root, "--recipe", str(file)]) == 0
    assert "1 of " in capsys.readouterr().out
    assert main([run.root, "--recipe", str(file), "--set", "seed=5"]) == 0
    assert "0 of " in capsys.readouterr().out  # another seed, other keys: nothing of it is there
