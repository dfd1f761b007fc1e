"""progress.json and sessions: of stages that finish, fail, are killed and go on, with prices."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import app.pipeline as pipeline
from app.cost import Held
from app.plan import Step, plan
from app.progress import Progress
from app.recipe import Recipe
from app.run_status import RunStatus
from app.stage import Stage, StageContext
from app.stage_timings import Session, read, totals
from app.store import Output

RECIPE = Recipe.model_validate(
    {
        "name": "t",
        "problems": {"train": 1, "validation": 1, "test": 1},
        "placement": {"sampling": {"actors": 2, "cpus": 3}},
        "prices": {"currency": "EUR", "cpu_hour": 3600},
    }
)


def stages(act: Callable[[StageContext], None]) -> list[Stage]:
    return [Stage("sampling", act, {}), Stage("verification", write, {}, {"sampling": "sampling"})]


def write(context: StageContext) -> None:
    pending = context.pending(3)
    context.progress.begin(3, 3 - len(pending))
    for index in pending:
        context.output.write_shard(index, pa.table({"id": ["a"]}), {"traces": 2.0})
        context.progress.advance(1, {"traces": 2.0})


def go(monkeypatch: pytest.MonkeyPatch, root: Path, act: Callable[[StageContext], None] = write) -> dict[str, Any]:
    """Run, and what progress.json says then."""
    monkeypatch.setattr(pipeline, "build", lambda _recipe: stages(act))
    try:
        pipeline.run(RECIPE, str(root))
    finally:
        body = json.loads((root / "progress.json").read_text())
    return body


def test_a_finished_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = go(monkeypatch, tmp_path)
    assert (told["run"], told["state"], told["currency"]) == ("t", "done", "EUR")
    sampling = told["stages"]["sampling"]
    assert (sampling["state"], sampling["done"], sampling["total"]) == ("done", 3, 3)
    assert sampling["counts"] == {"traces": 6.0} and sampling["sessions"] == 1
    assert sampling["cpu_seconds"] == pytest.approx(6 * sampling["seconds"], abs=0.01)  # two actors of three CPUs
    assert sampling["cost"] == pytest.approx(sampling["cpu_seconds"])
    assert told["cost"] == pytest.approx(sum(stage["cost"] for stage in told["stages"].values()))
    manifest = plan(stages(write), str(tmp_path))[0].output.manifest()
    assert {key: manifest[key] for key in ("sessions", "seconds", "cpu_seconds")}.items() <= sampling.items()
    again = go(monkeypatch, tmp_path)  # nothing to do: what is known comes from the manifests
    assert again["state"] == "done" and again["cost"] == told["cost"]


def test_a_failed_run_and_the_session_that_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(context: StageContext) -> None:
        context.output.write_shard(0, pa.table({"id": ["a"]}), {"traces": 2.0})
        time.sleep(0.05)
        raise RuntimeError("machine lost")

    with pytest.raises(RuntimeError, match="machine lost"):
        go(monkeypatch, tmp_path, fail)
    told = json.loads((tmp_path / "progress.json").read_text())
    assert told["state"] == "failed"
    assert {name: stage["state"] for name, stage in told["stages"].items()} == {
        "sampling": "failed",
        "verification": "pending",
    }
    spent = told["stages"]["sampling"]["cost"]
    with RunStatus(RECIPE, str(tmp_path), plan(stages(write), str(tmp_path))):  # begun again, but not this stage yet
        told = json.loads((tmp_path / "progress.json").read_text())
    assert told["stages"]["sampling"]["state"] == "pending" and told["cost"] == spent > 0
    told = go(monkeypatch, tmp_path)
    sampling = told["stages"]["sampling"]
    assert told["state"] == "done" and sampling["sessions"] == 2 and sampling["seconds"] >= 0.05
    assert sampling["reused"] == 1


def test_what_is_written_while_a_stage_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("app.run_status.LOCAL", 0.01)
    seen: list[dict[str, Any]] = []

    def look(context: StageContext) -> None:
        context.progress.begin(3)
        context.progress.advance(1, {"traces": 2.0})
        until = time.monotonic() + 30
        while not (seen and seen[-1]["stages"]["sampling"].get("done") == 1) and time.monotonic() < until:
            seen.append(json.loads((tmp_path / "progress.json").read_text()))  # whole at every moment
        entries = read(context.output)
        assert len(entries) == 1 and entries[0]["cpus"] == 6
        write(context)

    go(monkeypatch, tmp_path, look)
    sampling = seen[-1]["stages"]["sampling"]
    assert seen[-1]["state"] == sampling["state"] == "running"
    assert (sampling["done"], sampling["total"], sampling["counts"]) == (1, 3, {"traces": 2.0})
    assert sampling["rate"] is sampling["left_seconds"] is None  # the first pieces tell nothing yet
    assert sampling["cost"] >= 0
    assert seen[-1]["stages"]["verification"]["state"] == "pending"


def test_ctrl_c_is_a_stop(tmp_path: Path) -> None:
    step = Step(stages(write)[0], Output(str(tmp_path), "sampling", "k"), "new", 0, ())
    with pytest.raises(KeyboardInterrupt), RunStatus(RECIPE, str(tmp_path), [step]) as journal:
        journal.begin(step, Progress("sampling", io.StringIO()))
        raise KeyboardInterrupt
    told = json.loads((tmp_path / "progress.json").read_text())
    assert told["state"] == "stopped"
    assert not any(thread.name == "journal" for thread in threading.enumerate())


def test_a_disk_that_is_full_is_said_once_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = Step(stages(write)[0], Output(str(tmp_path), "sampling", "k"), "new", 0, ())
    with RunStatus(RECIPE, str(tmp_path), [step], interval=0.01) as journal:
        session = journal.begin(step, Progress("sampling", io.StringIO()))
        calls: list[str] = []

        def full(_name: str, _value: Any) -> None:
            calls.append(_name)
            from app.errors import UserError

            raise UserError("no space left")

        with monkeypatch.context() as patch:
            patch.setattr(Session, "save", lambda _self: full("s", None))
            while len(calls) < 5:
                time.sleep(0.01)
        session.save()
    assert capsys.readouterr().err.count("no space left") == 1


def test_sessions_of_a_killed_driver_count(tmp_path: Path) -> None:
    output = Output(str(tmp_path), "sampling", "k")
    clock = iter([0.0, 10.0, 100.0, 105.5]).__next__
    first = Session(output, Held(2, 4.0, 1.0), clock)
    first.save()  # at 10 s; then it is killed
    second = Session(output, Held(2, 8.0, 0.0), clock)
    entries = second.entries()
    assert [entry["seconds"] for entry in entries] == [10.0, 5.5]
    assert totals(entries) == {"sessions": 2, "seconds": 15.5, "cpu_seconds": 84.0, "gpu_seconds": 10.0}


def test_prices_change_the_report_alone() -> None:
    from app.graph import build
    from app.plan import keys_of

    plain = RECIPE.model_copy(update={"prices": None})
    before, after = keys_of(build(plain)), keys_of(build(RECIPE))
    assert {name for name in before if before[name] != after[name]} == {"report"}
