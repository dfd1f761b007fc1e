"""The report's account of new problems: sums by hand from a made-up yield, and the page's section."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.recipe import Recipe
from app.report.page import page
from app.report.synthesis import synthesis
from app.settings import Prices
from app.store import Output
from tests.report.test_results import results

Run = dict[str, Output]


@pytest.fixture(scope="module")
def found(shared_run: Run, build_recipe: Callable[..., Recipe]) -> dict[str, Any]:
    prices = Prices(currency="EUR", cpu_hour=36.0)
    return results(build_recipe().model_copy(update={"prices": prices}), shared_run)


def test_yield_by_strategy_and_reason(found: dict[str, Any]) -> None:
    told = found["synthesis"]
    assert told["strategies"]["similar"] == {
        "attempts": 41, "kept": 30, "most_lost": [["no agreement", 6], ["yes or no", 4]],
    }  # fmt: skip
    assert told["reasons"] == {
        "no agreement": 14, "yes or no": 4, "contaminated: 12-gram of test": 3, "near duplicate of seed": 1,
    }  # fmt: skip
    assert sum(told["reasons"].values()) + told["kept"] == told["attempts"] == 62


def test_what_a_kept_problem_took(found: dict[str, Any], shared_run: Run) -> None:
    each, seconds = found["synthesis"]["each"], shared_run["synthesis"].manifest()["seconds"]
    assert (each["requests"], each["tokens"]) == (12.5, 65.25)
    assert each["seconds"] == pytest.approx(seconds / 40)
    assert each["cost"] == pytest.approx(4 * seconds * 36 / 3600 / 40)  # four CPUs are held


def test_the_section_shows_it_and_quotes_without_markup(found: dict[str, Any]) -> None:
    html = page(found, {}, [])
    section = html[html.index('<section id="synthesis">') : html.index('<section id="yield">')]
    for text in (
        "40 wanted, from 62 attempts (64.5%)",
        "12.5 requests, 65 tokens",
        "EUR.",
        "no agreement, 6; yes or no, 4",
    ):
        assert text in section, text
    for text in ("43 problems were compared", "<code>0123abcd</code>", "3 12-gram", "cover 30% of", "must be the same"):
        assert text in section, text
    assert "Is &lt;b&gt;4&lt;/b&gt; new?" in section and "<b>4" not in section
    assert "solve rate: 0% to 10%: 4" in section
    assert '<a href="#synthesis">' in html


def test_no_rates_no_figure_no_prices_no_cost(found: dict[str, Any]) -> None:
    told = {**found["synthesis"], "solve_rates": None}
    told["each"] = {**told["each"], "cost": None}
    html = page({**found, "synthesis": told}, {}, [])
    assert "Difficulty</h3>" not in html and "of the stage.</p>" in html


def test_a_run_without_new_problems_or_of_before_has_no_section(found: dict[str, Any], tmp_path: Path) -> None:
    assert synthesis(Output(str(tmp_path), "synthesis", "k"), {"seconds": 1.0, "cost": None}) is None
    assert 'id="synthesis"' not in page({**found, "synthesis": None}, {}, [])
