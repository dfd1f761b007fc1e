"""The data curve as text, picture and page."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from app.report.curve import GREEDY, alone, figure, figures, laws, page, pairs, reasons, rows, saved_text, table


def saved(value: float | None) -> dict[str, Any]:
    if value is None:
        return {"value": None, "reason": "the curve does not fall"}
    value, low, high = (min(max(each, 1.0), 16.0) for each in (value, value / 2, value * 2))
    return {"value": value, "low": low, "high": high, "least": 1.0, "most": 16.0, "outside": 0.1}


def point(size: int, error: float, found: dict[str, Any] | None = None) -> dict[str, Any]:
    ends = {"low": error * 0.9, "high": min(1, error * 1.1)}
    return {"size": size, "error": error, **ends, "saved": found, "seeds": {"0": error}}


@pytest.fixture
def curve() -> dict[str, Any]:
    law = {"scale": 8.0, "alpha": 0.5, "alpha_interval": [0.4, 0.6], "smallest": 250, "largest": 1000}
    return {
        "baseline": "sft",
        "titles": {"sft": "SFT", "dpo": "DPO", "rft": "RFT", "step_dpo": "per-step DPO"},
        "colours": {"sft": ("#000001", "#000002"), "step_dpo": ("#000003", "#000004")},
        "problems": 1000,
        "undecided": 3,
        "sweeps": [],
        "differences": [
            {"size": 250, "method": "step_dpo", "other": "sft", "difference": -0.25, "low": -0.3, "high": -0.2}
            | {"seeds": {"0": -0.25, "1": 0.01}}
        ],
        "methods": {
            "sft": {"points": [point(250, 0.5), point(1000, 0.25)], "fit": law},
            "step_dpo": {"points": [point(250, 0.25, saved(4.0)), point(1000, 0.0, saved(None))], "fit": None},
        },
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (saved(None), "–"),
        (saved(4.0), "4x [2, 8]"),
        (saved(8.0), "8x [4, > 16]"),
        (saved(20.0), "> 16x [10, > 16]"),
        (saved(40.0), "> 16x"),
        (saved(0.8), "< 1x [< 1, 1.6]"),
        (saved(0.4), "< 1x"),
    ],
)
def test_saved_data_in_words(value: dict[str, Any] | None, text: str) -> None:
    assert saved_text(value) == text


def test_a_row_a_point(curve: dict[str, Any]) -> None:
    assert [row[:3] for row in rows(curve)[1:]] == [
        ("SFT", "250", "50.0%"),
        ("SFT", "1,000", "25.0%"),
        ("per-step DPO", "250", "25.0%"),
        ("per-step DPO", "1,000", "0.0%"),
    ]


def test_several_seeds_have_a_column_of_their_own(curve: dict[str, Any]) -> None:
    assert all(len(row) == 5 for row in rows(curve)) and "however many seeds" not in page("demo", {GREEDY: curve})
    curve["methods"]["sft"]["points"][0]["seeds"] = {"0": 0.45, "1": 0.55, "7": 0.5}
    head, first, *_ = rows(curve)
    assert (head[5], first[5]) == ("error by seed", "45.0% to 55.0% of 3")
    assert "45.0% to 55.0% of 3" in table(curve)
    assert "45.0% to 55.0% of 3" in page("demo", {GREEDY: curve}) and "however many seeds" in page(
        "demo", {GREEDY: curve}
    )


def test_table_is_text_with_the_laws_below(curve: dict[str, Any]) -> None:
    lines = table(curve).splitlines()
    assert lines[0].startswith("method") and set(lines[1]) == {"-", " "}
    assert lines[-2] == laws(curve)[0] == "SFT: error = 8 D^-0.500 (95%: 0.400 to 0.600)"
    assert lines[-1] == reasons(curve)[0] == "– no reading for per-step DPO at 1,000: the curve does not fall"


def test_a_reason_is_said_once_for_all_its_points(curve: dict[str, Any]) -> None:
    curve["methods"]["dpo"] = {"points": [point(250, 0.3, saved(None)), point(1000, 0.2, saved(None))], "fit": None}
    assert reasons(curve) == [
        "– no reading for per-step DPO at 1,000, DPO at 250, DPO at 1,000: the curve does not fall"
    ]


def test_nothing_is_said_where_everything_can_be_read(curve: dict[str, Any]) -> None:
    curve["methods"]["step_dpo"]["points"].pop()
    assert reasons(curve) == [] and table(curve).splitlines()[-1] == laws(curve)[0]


def test_figure_draws_every_method_and_no_fixed_colour(curve: dict[str, Any]) -> None:
    drawn = figure(curve)
    assert drawn.startswith("<svg") and "var(--policy-0)" in drawn and "var(--policy-1)" in drawn
    assert "#fe" not in drawn


def test_optimiser_steps_have_a_column_where_they_are_known(curve: dict[str, Any]) -> None:
    curve["methods"]["sft"]["points"][0]["steps"] = 1200
    head, first, second, *_ = rows(curve)
    assert (head[-1], first[-1], second[-1]) == ("optimiser steps", "1,200", "–")


def test_a_figure_of_its_own_has_fixed_colours(curve: dict[str, Any]) -> None:
    drawn = alone(figure(curve), curve)
    assert "var(--" not in drawn and "#000001" in drawn and "#000003" in drawn and 'fill="#ffffff"' in drawn


def test_a_page_of_two_curves_names_both_and_shares_no_id(curve: dict[str, Any]) -> None:
    html = page("demo", {GREEDY: curve, "error of draws": curve})
    assert "<h2>Greedy error</h2>" in html and "<h2>Error of draws</h2>" in html
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_each_against_each_is_in_points(curve: dict[str, Any]) -> None:
    _, *body = pairs(curve)
    assert body == [("per-step DPO against SFT", "250", "−25.0", "[−30.0, −20.0]", "−25.0, +1.0")]
    assert "per-step DPO against SFT" in page("demo", {GREEDY: curve})


def test_a_method_of_one_size_is_left_to_the_table_where_others_have_several(curve: dict[str, Any]) -> None:
    curve["methods"]["step_dpo"]["points"].pop()
    assert "per-step DPO" not in figure(curve) and pairs(curve) == []
    curve["methods"]["sft"]["points"].pop()
    assert "per-step DPO" in figure(curve)


def test_a_sweep_has_a_figure_of_its_own_in_its_run_s_colour(curve: dict[str, Any]) -> None:
    points = [point(1000, error) | {"value": value} for value, error in ((1, 0.3), (4, 0.25), (16, 0.27))]
    sweep = {"run": "step_dpo", "name": "per-step DPO", "line": "step_dpo", "key": "runs.step_dpo.per_problem"}
    curve["sweeps"] = [sweep | {"size": 1000, "points": points}] * 2
    found = figures(curve)
    assert list(found) == [
        "curve",
        "step_dpo-runs.step_dpo.per_problem-1000",
        "step_dpo-runs.step_dpo.per_problem-1000-2",
    ]
    drawn = found["step_dpo-runs.step_dpo.per_problem-1000"]
    assert "var(--policy-1)" in drawn and "var(--policy-0)" not in drawn and ">16<" in drawn
    assert "One setting changed" in page("demo", {GREEDY: curve})


def test_page_works_offline_and_escapes(curve: dict[str, Any]) -> None:
    html = page("<b>x</b>", {GREEDY: curve})
    assert "&lt;b&gt;x" in html and "<b>x" not in html
    outside = []

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            outside.extend(v for k, v in attrs if k in ("src", "href") and v and v.startswith("http"))

    Links().feed(html)
    assert not outside
    assert "3 answers that were undecided" in html
    assert "– no reading for per-step DPO at 1,000: the curve does not fall" in html


def test_head_of_both_pages_allows_no_script_here(curve: dict[str, Any]) -> None:
    html = page("tiny", {GREEDY: curve})
    assert html.startswith("<!doctype html>") and "<title>tiny: eightfold data curve</title>" in html
    assert "default-src 'none'" in html and "script-src" not in html and "<script" not in html
