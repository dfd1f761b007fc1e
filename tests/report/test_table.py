"""The printed table, and numbers as people read them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.report.table import accuracy_table, compact, count, duration, interval, percent, points


def estimate(value: float | None, low: float, high: float, n: int) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n}


def method(value: float | None, versus: float | None = None, undecided: int = 0, n: int = 1000) -> dict[str, Any]:
    compared = None if versus is None else {"difference": estimate(versus, versus - 0.02, versus + 0.02, n)}
    low, high = (0.0, 1.0) if value is None else (value - 0.03, value + 0.03)
    return {"accuracy": estimate(value, low, high, n) | {"undecided": undecided}, "versus": compared}


def told(baseline: str | None, **methods: Any) -> dict[str, Any]:
    titles = {"base": "base", "sft": "SFT", "rft": "RFT"}
    return {"baseline": baseline, "methods": methods, "order": list(methods), "titles": titles}


def test_table() -> None:
    table = accuracy_table(told("sft", sft=method(0.7), rft=method(0.785, 0.085)))
    assert table.split("\n") == [
        "method  accuracy  95% interval  vs SFT, points   95% interval  problems",
        "------  --------  ------------  --------------  -------------  --------",
        "SFT        70.0%  [67.0, 73.0]                                    1,000",
        "RFT        78.5%  [75.5, 81.5]            +8.5  [+6.5, +10.5]     1,000",
    ]


def test_table_tells_of_undecided_answers() -> None:
    table = accuracy_table(told("base", base=method(0.1), rft=method(0.2, 0.1, undecided=7)))
    assert table.split("\n")[0].endswith("undecided") and table.split("\n")[3].endswith("7")
    assert "vs base, points" in table


def test_table_without_judged_answers() -> None:
    table = accuracy_table(told(None, rft=method(None, n=0, undecided=5)))
    assert table.split("\n")[2].split() == ["RFT", "–", "–", "0", "5"]


def test_table_without_methods() -> None:
    assert accuracy_table({"baseline": None, "methods": {}}) == "no method was evaluated"


@pytest.mark.parametrize(
    ("value", "text"), [(0.1234, "12.3%"), (1.0, "100.0%"), (0.0, "0.0%"), (None, "–"), (0.99951, "100.0%")]
)
def test_percent(value: float | None, text: str) -> None:
    assert percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0815, "+8.2"),
        (-0.0815, "−8.2"),
        (0.0, "0.0"),
        (-0.0001, "0.0"),
        (0.0001, "0.0"),
        (1.0, "+100.0"),
        (None, "–"),
    ],
)
def test_points(value: float | None, text: str) -> None:
    assert points(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (7, "7"),
        (999, "999"),
        (1000, "1k"),
        (12_345, "12.3k"),
        (1.5e6, "1.5M"),
        (2e9, "2B"),
        (3e12, "3T"),
        (None, "–"),
    ],
)
def test_compact(value: float | None, text: str) -> None:
    assert compact(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (8.24, "8.2 s"), (59.94, "59.9 s"), (200, "3 min 20 s"), (3599.6, "1 h 0 min"), (7500, "2 h 5 min"),
     (90_061, "25 h 1 min"), (None, "–")],
)  # fmt: skip
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@given(st.floats(0, 1e7))
def test_duration_never_shows_sixty_of_what_makes_a_larger_unit(seconds: float) -> None:
    assert not re.search(r"\b60(\.0)? (s|min)", duration(seconds))


@given(st.integers(0, 10**15))
def test_count_round_trips(value: int) -> None:
    assert int(count(value).replace(",", "")) == value


@pytest.mark.parametrize(
    ("body", "signed", "text"),
    [
        (estimate(0.5, 0.4512, 0.5488, 9), False, "[45.1, 54.9]"),
        (estimate(0.0, -0.021, 0.019, 9), True, "[−2.1, +1.9]"),
        (estimate(None, 0, 1, 0), False, "–"),
    ],
)
def test_interval(body: dict[str, Any], signed: bool, text: str) -> None:
    assert interval(body, signed) == text
