"""The metrics file through kills and restarts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.training.metrics import MetricsFile, read, restarts_of, totals


def row(step: int, time: float, seconds: float = 1.0, **more: float) -> dict[str, Any]:
    return {"step": step, "time": time, "seconds": seconds, "examples": 8, "tokens": 50, "computed_tokens": 60, **more}


def test_a_run_that_goes_on_drops_what_it_will_make_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = MetricsFile(path, 0)
    for step in range(1, 6):
        first.append(row(step, 10.0 + step, loss=1.0))
    with path.open("a") as file:
        file.write('{"step": 6, "lo')  # killed while writing
    assert [r["step"] for r in read(path)] == [1, 2, 3, 4, 5]
    second = MetricsFile(path, 3)
    second.append(row(4, 30.0, loss=2.0))
    assert [(r["step"], r["loss"]) for r in read(path)] == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0)]


def test_an_interruption_is_counted_with_what_it_cost(tmp_path: Path) -> None:
    """Killed after step 5 at second 15; from the checkpoint of step 3 the next step ended at 30 and took 2 seconds."""
    path = tmp_path / "metrics.jsonl"
    first = MetricsFile(path, 0)
    for step in range(1, 6):
        first.append(row(step, 10.0 + step))
    assert not restarts_of(path).exists()
    second = MetricsFile(path, 3)
    for step in range(4, 7):
        second.append(row(step, 22.0 + 2 * step, 2.0))
    assert read(restarts_of(path)) == [{"step": 3, "redone_steps": 2, "redone_seconds": 2.0, "down_seconds": 13.0}]
    counts = totals(path)
    assert (counts["restarts"], counts["redone_steps"], counts["lost_seconds"]) == (1, 2, 15.0)
    assert (counts["steps"], counts["seconds"], counts["tokens"]) == (6, 9.0, 300.0)


def test_an_attempt_that_is_killed_before_its_first_step_is_part_of_the_same_interruption(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = MetricsFile(path, 0)
    for step in range(1, 4):
        first.append(row(step, 10.0 + step))
    MetricsFile(path, 2)  # killed while it starts
    assert [r["step"] for r in read(path)] == [1, 2, 3]
    MetricsFile(path, 2).append(row(3, 50.0))
    assert read(restarts_of(path)) == [{"step": 2, "redone_steps": 1, "redone_seconds": 1.0, "down_seconds": 36.0}]


def test_the_time_between_two_jobs_is_not_lost_by_a_kill(tmp_path: Path) -> None:
    """The driver was killed and the same command typed in the morning, at second 1,000."""
    path = tmp_path / "metrics.jsonl"
    MetricsFile(path, 0, began=0.0).append(row(1, 10.0))
    MetricsFile(path, 0, began=1000.0).append(row(1, 1021.0))
    assert read(restarts_of(path))[0]["down_seconds"] == 20.0


def test_an_undisturbed_run_counts_no_restart(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    MetricsFile(path, 0).append(row(1, 10.0))
    assert "restarts" not in totals(path)
    assert totals(path)["examples"] == 8


def test_no_file_is_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path / "none.jsonl") == []
    assert totals(tmp_path / "none.jsonl")["steps"] == 0


@pytest.mark.parametrize("kills", [1, 2, 4])
def test_every_kill_that_let_a_step_pass_is_one_restart(tmp_path: Path, kills: int) -> None:
    path = tmp_path / "metrics.jsonl"
    for attempt in range(kills + 1):
        file = MetricsFile(path, attempt)
        for step in (attempt + 1, attempt + 2):
            file.append(row(step, 100.0 * attempt + step))
    assert totals(path)["restarts"] == kills
    assert totals(path)["redone_steps"] == kills
    assert [r["step"] for r in read(path)] == list(range(1, kills + 3))
