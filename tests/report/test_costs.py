"""Costs and yields of the report, against sums worked out here from the same made-up run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.recipe import Recipe
from app.records import Trace, Verdict
from app.report.costs import cost_lines, stage_cost
from app.report.page import page
from app.settings import Prices
from app.store import Output
from tests.report.test_results import results

Run = dict[str, Output]
PRICES = Prices(currency="EUR", cpu_hour=0.36, gpu_hour=3.6, trainer={"cpu_hour": 3.6})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def priced(shared_run: Run, build_recipe: Callable[..., Recipe]) -> dict[str, Any]:
    return results(build_recipe().model_copy(update={"prices": PRICES}), shared_run)


def test_cost_of_every_stage_by_hand(priced: dict[str, Any], shared_run: Run) -> None:
    for stage in priced["stages"]:
        seconds = shared_run[stage["stage"]].manifest()["seconds"]  # four CPUs are held all the time
        per_cpu_second = 0.001 if stage["stage"].startswith("training/") else 0.0001
        expected = 4 * seconds * per_cpu_second + (seconds * 0.001 if stage["stage"] == "sampling/sft" else 0)
        assert stage["cost"] == pytest.approx(expected), stage["stage"]
    assert priced["cost"]["total"] == pytest.approx(sum(stage["cost"] for stage in priced["stages"]))


def test_cost_of_an_accepted_trace(priced: dict[str, Any]) -> None:
    made = {stage["stage"]: stage["cost"] for stage in priced["stages"]}
    accepted = priced["samples"]["sft"]["yield"]["outcomes"]["correct"]
    assert priced["cost"]["per_accepted"] == pytest.approx((made["sampling/sft"] + made["verification/sft"]) / accepted)


def test_without_prices_nothing_is_claimed(shared_run: Run, build_recipe: Callable[..., Recipe]) -> None:
    found = results(build_recipe(), shared_run)
    assert found["cost"] is None and {stage["cost"] for stage in found["stages"]} == {None}
    assert all(stage["cpu_seconds"] > 0 for stage in found["stages"])
    assert cost_lines(found) == ""
    assert "A part <code>prices</code>" in page(found, {}, [])


def test_a_manifest_of_before_sessions_has_no_cost() -> None:
    assert stage_cost(PRICES, "sampling", {"seconds": 3.0}) == {
        "sessions": None, "cpu_seconds": None, "gpu_seconds": None, "cost": None,
    }  # fmt: skip


def test_yield_by_difficulty(priced: dict[str, Any], shared_run: Run) -> None:
    traces = Trace.from_table(shared_run["sampling/sft"].read())
    right = {v.trace_id for v in Verdict.from_table(shared_run["verification/sft"].read()) if v.outcome == "correct"}
    rows = priced["samples"]["sft"]["yield"]["difficulty"]
    assert sum(row["problems"] for row in rows) == len({t.problem_id for t in traces})
    assert sum(row["traces"] for row in rows) == len(traces) == 240
    assert sum(row["accepted"] for row in rows) == len(right)
    assert sum(row["tokens"] for row in rows) == sum(len(t.token_ids) for t in traces)
    assert sum(row["engine_seconds"] for row in rows) == pytest.approx(0.01 * len(traces), abs=0.01)
    for row in rows:
        assert (row["tokens_per_accepted"] is None) == (row["accepted"] == 0) == (row["band"] == "never solved")
    wanted = [row["tokens_per_accepted"] for row in rows if row["accepted"]]
    assert wanted == sorted(wanted)  # harder problems cost more a trace


def test_the_page_shows_costs_and_difficulty(priced: dict[str, Any]) -> None:
    html = page(priced, {}, [])
    assert "cost, EUR" in html and "for each accepted trace" in html
    assert all(f'<th scope="row">{row["band"]}</th>' in html for row in priced["samples"]["sft"]["yield"]["difficulty"])
    assert html.count('<th scope="row">sampling/sft</th>') >= 2


def test_the_lines_at_the_end_of_a_run(priced: dict[str, Any]) -> None:
    first, *rest = cost_lines(priced).splitlines()
    assert first.startswith("cost: ") and first.endswith("EUR an accepted trace")
    amounts = [float(line.split()[1]) for line in rest]
    assert amounts == sorted(amounts, reverse=True) and len(rest) == len(priced["stages"])
