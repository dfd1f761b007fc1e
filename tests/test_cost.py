"""Costs: prices times what placements hold times seconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cost import Held, cost, engines, held, money, total
from app.recipe import Recipe
from app.settings import Prices

PLACEMENT = {
    "sampling": {"actors": 3, "cpus": 4, "gpus": 2},
    "verification": {"actors": 5, "cpus": 2},
    "training": {"workers": 2, "cpus": 8, "gpus": 1},
}
PRICES = Prices(currency="EUR", cpu_hour=0.04, gpu_hour=2.5, trainer={"cpu_hour": 0.05, "gpu_hour": 7.0})  # type: ignore[arg-type]
seconds = st.floats(0, 1e9)


def recipe(**parts: object) -> Recipe:
    body = {"name": "r", "problems": {"train": 1, "validation": 1, "test": 1}, "placement": PLACEMENT}
    return Recipe.model_validate(body | parts)


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("problems", Held(0, 0, 0)),
        ("datasets/rft", Held(0, 0, 0)),
        ("report", Held(0, 0, 0)),
        ("synthesis", Held(0, 0, 0)),  # the world's own writer
        ("sampling", Held(3, 12, 6)),
        ("credit", Held(3, 12, 6)),
        ("evaluation/dpo", Held(3, 12, 6)),
        ("verification", Held(5, 10, 0)),
        ("training/sft", Held(2, 16, 2)),
    ],
)
def test_a_stage_holds_its_whole_pool(stage: str, expected: Held) -> None:
    assert held(recipe(), stage) == expected
    assert engines(recipe(), stage) == (expected.actors if stage in ("sampling", "credit", "evaluation/dpo") else 0)


def test_a_writer_of_our_own_holds_engines() -> None:
    writer = {"kind": "vllm", "weights": {"path": "world"}}
    assert held(recipe(synthesis={"writer": writer, "count": 2}), "synthesis") == Held(3, 12, 6)


def test_the_formula_by_hand() -> None:
    assert cost(PRICES, "sampling", 7200, 3600) == pytest.approx(2 * 0.04 + 2.5)
    assert cost(PRICES, "training/sft", 7200, 3600) == pytest.approx(2 * 0.05 + 7.0)
    assert cost(PRICES, "problems", 0, 0) == 0
    dear = Prices(cpu_hour=0.04, gpu_hour=2.5, trainer={"gpu_hour": 7.0})  # type: ignore[arg-type]
    assert cost(dear, "training/sft", 7200, 3600) == pytest.approx(2 * 0.04 + 7.0)  # CPUs cost what they cost elsewhere
    assert cost(None, "sampling", 7200, 3600) is None


@given(seconds, seconds, seconds, seconds)
def test_costs_add_up(c1: float, g1: float, c2: float, g2: float) -> None:
    both = total([cost(PRICES, "sampling", c1, g1), cost(PRICES, "sampling", c2, g2), None])
    assert both == pytest.approx(cost(PRICES, "sampling", c1 + c2, g1 + g2))


def test_no_price_no_total() -> None:
    assert total([None, None]) is None and total([]) is None and total([0.0]) == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0.00 USD"),
        (0.0000123, "0.0000123 USD"),
        (0.5, "0.500 USD"),
        (1.2345, "1.23 USD"),
        (12345.678, "12,345.68 USD"),
    ],
)
def test_money(value: float | None, text: str) -> None:
    assert money(value, "USD" if value is not None else "") == text


@pytest.mark.parametrize("bad", [{"cpu_hour": -1}, {"cpu": 1}, {"sampler": {"gpu_hours": 1}}, {"currency": ""}])
def test_wrong_prices_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        recipe(prices=bad)
