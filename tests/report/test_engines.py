"""The engines' use over time: points of the results, and the figure."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa

from app.recipe import Recipe
from app.report.engines import POINTS, engine_use
from app.report.page import page
from app.sampling import utilisation
from app.sampling.meter import WINDOW
from app.store import Output
from tests.report.test_results import results


def recorded(root: Path, windows: list[dict[str, Any]]) -> Output:
    output = Output(str(root), "sampling", "k")
    output.write_shard(0, pa.Table.from_pylist(windows, schema=utilisation.SCHEMA), kind=utilisation.KIND)
    return output


def window(number: int, busy: float, engine: str = "a") -> dict[str, Any]:
    return {"engine": engine, "begin": 1e9 + number * WINDOW, "busy": busy, "requests": 80.0, "tokens": 500}


def test_points_of_the_made_up_run(shared_run: dict[str, Output], build_recipe: Callable[..., Recipe]) -> None:
    found = results(build_recipe(), shared_run)
    assert [(point["seconds"], point["busy"]) for point in found["samples"]["sft"]["engines"]] == [
        (0, 0.5),
        (10, 0.6),
        (20, 0.7),
    ]
    assert {
        (point["engines"], point["requests"], point["tokens_per_second"])
        for point in found["samples"]["sft"]["engines"]
    } == {(1, 4.0, 100.0)}
    html = page(found, {}, [])
    assert "The engines over time" in html and 'aria-label="Sampling engines over time' in html


def test_a_long_run_is_thinned_out_by_means(tmp_path: Path) -> None:
    points = engine_use(recorded(tmp_path, [window(n, 10.0 * (n % 2)) for n in range(1000)]))
    assert POINTS / 2 < len(points) <= POINTS
    assert {point["busy"] for point in points} == {0.4, 0.6}  # five windows a point, two or three of them with work
    steps = {later["seconds"] - earlier["seconds"] for earlier, later in pairwise(points)}
    assert steps == {5 * WINDOW}


def test_a_pause_between_sessions_is_no_idle_time(tmp_path: Path) -> None:
    points = engine_use(recorded(tmp_path, [window(0, 10.0, "a"), window(9000, 10.0, "b")]))
    assert [point["busy"] for point in points] == [1.0, 1.0] and points[1]["seconds"] > 80_000


def test_no_record_no_figure(
    tmp_path: Path, shared_run: dict[str, Output], build_recipe: Callable[..., Recipe]
) -> None:
    assert engine_use(Output(str(tmp_path), "sampling", "k")) == []
    without = {name: output for name, output in shared_run.items() if name != "sampling/sft"}
    assert "engines over time" not in page(results(build_recipe(), without), {}, [])
