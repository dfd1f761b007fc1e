"""The metrics file through kills and restarts."""

from __future__ import annotations

from pathlib import Path

from app.training.metrics import MetricsFile, read


def test_a_run_that_goes_on_drops_what_it_will_make_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = MetricsFile(path, 0)
    for step in range(1, 6):
        first.append({"step": step, "loss": 1.0})
    with path.open("a") as file:
        file.write('{"step": 6, "lo')  # killed while writing
    assert [row["step"] for row in read(path)] == [1, 2, 3, 4, 5]
    second = MetricsFile(path, 3)
    second.append({"step": 4, "loss": 2.0})
    assert [(row["step"], row["loss"]) for row in read(path)] == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0)]


def test_no_file_is_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path / "none.jsonl") == []
