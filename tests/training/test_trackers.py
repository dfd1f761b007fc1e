"""Where curves go besides the metrics file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from app.errors import UserError
from app.stage import StageContext
from app.training.launch import make_job
from app.training.trackers import Trackers

MakeContext = Callable[..., StageContext]
ROWS = [{"step": step, "time": 1e9 + step, "loss": 1.0 / step, "tokens": 50.0} for step in (1, 2, 3)]


def job_with(make_context: MakeContext, *names: str) -> Any:
    return make_job(make_context("sft", placement={"trackers": list(names)}))


def curves(folder: Any) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [(e.step, round(e.value, 4)) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_tensorboard_gets_every_step_once_even_when_the_run_goes_on(make_context: MakeContext) -> None:
    pytest.importorskip("tensorboard")
    job = job_with(make_context, "tensorboard")
    first = Trackers(job, 0)
    for row in ROWS:
        first.add(row)
    first.add({"step": 2, "accuracy": 0.5}, "validation")
    first.close()
    again = Trackers(job, 2)  # killed, and the last checkpoint held two steps
    again.add({**ROWS[2], "loss": 0.25})
    again.close()
    found = curves(job.output.local("tensorboard"))
    assert found["train/loss"] == [(1, 1.0), (2, 0.5), (3, 0.25)]
    assert found["validation/accuracy"] == [(2, 0.5)]
    assert "train/time" not in found


def test_none_is_asked_for_by_default(make_context: MakeContext) -> None:
    trackers = Trackers(job_with(make_context), 0)
    trackers.add(ROWS[0])
    assert trackers.trackers == []


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tool_that_is_not_installed_is_one_clear_error(
    make_context: MakeContext, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    with pytest.raises(
        UserError, match=f"placement.training.trackers: {name} is not installed here .* pip install {name}"
    ):
        Trackers(job_with(make_context, name), 0)


class Recorder:
    """Stands for wandb and mlflow: notes every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*positional: Any, **named: Any) -> Any:
            self.calls.append((name, positional, named))
            return [] if name == "search_runs" else self

        return call


def test_wandb_continues_the_run_of_the_same_key(make_context: MakeContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", wandb := Recorder())  # type: ignore[arg-type]
    trackers = Trackers(job_with(make_context, "wandb"), 0)
    trackers.add(ROWS[0])
    trackers.close()
    names = [name for name, _, _ in wandb.calls]
    assert names == ["init", "define_metric", "define_metric", "log", "finish"]
    assert wandb.calls[0][2]["id"] == "k" and wandb.calls[0][2]["resume"] == "allow"
    assert wandb.calls[3][1:] == (({"train/loss": 1.0, "train/tokens": 50.0, "train/step": 1},), {})


def test_mlflow_finds_its_run_again(make_context: MakeContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", mlflow := Recorder())  # type: ignore[arg-type]
    trackers = Trackers(job_with(make_context, "mlflow"), 0)
    trackers.add(ROWS[0])
    trackers.close()
    assert [name for name, _, _ in mlflow.calls] == [
        "set_experiment", "search_runs", "start_run", "log_params", "log_metrics", "end_run"
    ]  # fmt: skip
    known = SimpleNamespace(info=SimpleNamespace(run_id="r1"))
    found = Recorder()
    found.search_runs = lambda **_: [known]  # type: ignore[method-assign, attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", found)  # type: ignore[arg-type]
    Trackers(job_with(make_context, "mlflow"), 2)
    assert found.calls[-1] == ("start_run", (), {"run_id": "r1"})
