"""The page: whole, self-contained, and nothing a model wrote is ever markup."""

from __future__ import annotations

import base64
import copy
import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from app.recipe import Recipe
from app.records import Problem, StepValue, Trace, Verdict
from app.report import figures
from app.report.gallery import Card, held_out, sampled, view
from app.report.page import Losses, counts, headline, page, signed
from app.report.stage import losses
from app.store import Output
from tests.report.test_results import results

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)> ]]> {{ 7 * 7 }} \" ' & </style></title>"
VOID = {"meta", "input", "br", "img", "link", "hr"}


class Reader(HTMLParser):
    """Collects elements, ids, links and text; fails where tags do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open[-3:])
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def found(shared_run: dict[str, Output], build_recipe: Callable[..., Recipe]) -> dict[str, Any]:
    return results(build_recipe(), shared_run)


def cards_of(inputs: dict[str, Output], found: dict[str, Any]) -> list[Card]:
    asked = {method: inputs[f"evaluation/{method}"] for method in found["methods"]}
    return sampled(inputs, "synthesis") + held_out(inputs["problems"], asked, found["titles"], found["baseline"])


def losses_of(inputs: dict[str, Output], found: dict[str, Any]) -> Losses:
    return losses(inputs, {name: f"training/{name}" for name in found["methods"]})


@pytest.fixture(scope="module")
def cards(shared_run: dict[str, Output], found: dict[str, Any]) -> list[Card]:
    return cards_of(shared_run, found)


@pytest.fixture(scope="module")
def html(shared_run: dict[str, Output], found: dict[str, Any], cards: list[Card]) -> str:
    return page(found, losses_of(shared_run, found), cards)


def evil_card(text: str = EVIL) -> Card:
    problem = Problem("p-" + text, text, text, "train", "evil")
    trace = Trace("t-evil", problem.id, 0, 1, "sft", [1], [2, 3], f"1 + 1 = 2\n{text}\n#### 3\n", "stop")
    steps = [
        StepValue(trace.id, problem.id, 0, 0, 0, "", 3, 4, 0.75, 0.3, 0.95, None, False),
        StepValue(trace.id, problem.id, 2, 1, 2, text + "\n", 0, 4, 0.0, 0.0, 0.5, -0.75, True),
    ]
    return Card("sampled", problem, (view(text, trace, Verdict(trace.id, "incorrect", text, text, "t", 0.0), steps),))


def test_page_nests_and_has_one_of_each_frame(html: str) -> None:
    reader = Reader(html)
    assert [len(reader.all(tag)) for tag in ("html", "head", "body", "main", "title", "style", "h1")] == [1] * 7
    assert reader.all("html")[0]["lang"] == "en"
    assert html.lstrip().startswith("<!doctype html>")


def test_page_needs_nothing_from_outside(html: str) -> None:
    reader = Reader(html)
    for tag, attributes in reader.tags:
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    assert not reader.all("link") and not reader.all("img") and not reader.all("iframe")
    style = html[html.index("<style>") : html.index("</style>")]
    assert "@import" not in style and "url(" not in style and "@font-face" not in style


def test_ids_are_unique_and_references_resolve(html: str) -> None:
    reader = Reader(html)
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = re.findall(r'(?:href="#|url\(#)([^")]+)', html)
    assert set(wanted) <= set(ids) and wanted


def test_only_our_script_may_run(html: str) -> None:
    reader = Reader(html)
    assert len(reader.all("script")) == 1
    policy = next(m["content"] for m in reader.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL)
    assert script and policy
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert not [a for _, attributes in reader.tags for a in attributes if a.startswith("on")]


def test_model_text_is_escaped(found: dict[str, Any]) -> None:
    evil = page(found, {}, [evil_card()])
    reader, plain = Reader(evil), Reader(page(found, {}, [evil_card("harmless")]))
    assert [tag for tag, _ in reader.tags] == [tag for tag, _ in plain.tags]
    assert "<script>alert" not in evil and "onerror=alert(2)>" not in evil
    assert "".join(reader.text).count(EVIL) >= 5  # statement, answer, label, step, extracted: all shown as they are


def test_recipe_text_is_escaped(found: dict[str, Any]) -> None:
    evil = copy.deepcopy(found)
    evil["recipe"]["model"]["path"] = EVIL
    evil["stages"][0]["counts"][EVIL] = 3
    evil["versions"][EVIL] = [EVIL]
    evil["run"] = EVIL
    html = page(evil, {}, [])
    assert len(Reader(html).all("script")) == 1 and "<script>alert" not in html and "<img" not in html


def test_every_method_and_number_of_the_table_is_there(html: str, found: dict[str, Any]) -> None:
    text = " ".join(Reader(html).text)
    for title, method in zip(("base", "SFT", "RFT", "DPO", "per-step DPO"), found["methods"].values(), strict=True):
        assert title in text and f"{100 * method['accuracy']['value']:.1f}%" in text
    for stage in found["stages"]:
        assert stage["stage"] in text and stage["key"] in text


def test_steps_are_coloured_by_value_and_the_pit_is_marked(found: dict[str, Any]) -> None:
    html = page(found, {}, [evil_card("wrong line")])
    assert '<li class="pit"><span class="q valued" style="--q: 0.000" title="0 of 4 rollouts' in html
    assert html.count("▼ first pit") == 1 and "−0.75" in html and 'style="--q: 0.750"' in html


def test_a_right_trace_stands_beside_a_wrong_one(html: str) -> None:
    first = html[html.index('<article class="card"') :]
    first = first[: first.index("</article>")]
    assert first.index("is-correct") < first.index("is-incorrect") and "first pit" in first


def test_cards_carry_their_filters(html: str, cards: list[Card]) -> None:
    tags = [a["data-tags"] for a in Reader(html).all("article")]
    assert tags == [" ".join(card.tags) for card in cards]
    offered = set(re.findall(r'<option value="([a-z_-]+)"', html))
    assert offered and all(0 < sum(tag in card.tags for card in cards) < len(cards) for tag in offered)
    assert {"pit", "won-rft"} <= offered and "RFT right, SFT wrong" in html


def test_a_step_without_a_value_says_why(found: dict[str, Any]) -> None:
    card = evil_card("wrong line")
    [shown] = card.traces
    bare = [replace(p, value=p.value and replace(p.value, q=None, advantage=None)) for p in shown.pieces]
    summed = [replace(p, value=p.value and replace(p.value, wrong_sums=1)) for p in bare]
    told = []
    for pieces in (bare, summed):
        html = page(found, {}, [replace(card, traces=(replace(shown, pieces=tuple(pieces)),))])
        told += re.findall(r'pit-label">▼ first pit; (.*?)</span>', html)
    assert told[0].startswith("no rollouts from behind the pit")
    assert told[1] == "no rollouts: a wrong sum written here named the step"


def test_base_alone_has_no_panel_of_differences(found: dict[str, Any]) -> None:
    alone = {"base": found["methods"]["base"] | {"versus": None}}
    assert "difference from" not in figures.accuracy(alone, found["titles"], "base")
    both = figures.accuracy(found["methods"], found["titles"], "sft", narrow=True)
    assert "difference from SFT" in both and 'id="accuracy-narrow-' in both


def test_a_value_at_the_edge_is_written_inside(found: dict[str, Any]) -> None:
    zero = {"value": 0.0, "low": 0.0, "high": 0.1, "n": 40}
    methods = {"sft": found["methods"]["sft"] | {"accuracy": zero, "versus": None}}
    drawn = figures.accuracy(methods, found["titles"], "sft")
    [label] = re.findall(r"<text style=\"([^\"]*)\"[^>]*>0\.0%</text>", drawn)
    assert "text-anchor: middle" not in label


def test_figures_follow_the_theme(html: str) -> None:
    assert not re.search(r"#fe[0-9a-f]{2}dc", html)
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        assert 'role="img" aria-label="' in svg and "var(--" in svg
        assert not set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", svg)) - {"#000000", "#ffffff"}, svg[:200]


def test_page_is_small(html: str) -> None:
    assert len(html) < 600_000


def test_page_is_the_same_every_time(
    shared_run: dict[str, Output], found: dict[str, Any], cards: list[Card], html: str
) -> None:
    assert page(found, losses_of(shared_run, found), cards) == html


@pytest.mark.parametrize(
    "left",
    [
        ("credit/sft",),
        ("credit/sft", "sampling/sft", "verification/sft"),
        ("training/sft", "training/rft", "training/dpo", "training/step_dpo"),
        ("evaluation/sft",),
        ("evaluation/base", "evaluation/sft", "evaluation/rft", "evaluation/dpo", "evaluation/step_dpo"),
    ],
)
def test_page_without_stages(
    shared_run: dict[str, Output], build_recipe: Callable[..., Recipe], left: tuple[str, ...]
) -> None:
    inputs = {n: o for n, o in shared_run.items() if n not in left}
    some = results(build_recipe(), inputs)
    shown = cards_of(inputs, some)
    text = "".join(Reader(page(some, losses_of(inputs, some), shown)).text)
    assert ("▼ first pit" in text) == ("credit/sft" not in left)
    assert ("Yield" in text) == ("sampling/sft" not in left)
    evaluated = "evaluation/base" not in left
    assert ("Loss by optimiser step" in text) == (evaluated and "training/sft" not in left)
    assert ("Greedy" in text or "greedily" in text) == ("evaluation/base" not in left)


def test_page_without_drawn_samples(found: dict[str, Any]) -> None:
    body = copy.deepcopy(found)
    for method in body["methods"].values():
        method["pass_at_k"] = method["maj_at_k"] = {}
    assert "pass@" not in "".join(Reader(page(body, {}, [])).text).split("The run")[0]


def test_page_with_nothing_judged(found: dict[str, Any]) -> None:
    body = copy.deepcopy(found)
    nothing = {"value": None, "low": 0.0, "high": 1.0, "n": 0}
    for method in body["methods"].values():
        method["accuracy"] |= nothing
        if method["versus"]:
            method["versus"]["difference"] = nothing
    assert "No method has been evaluated" in "".join(Reader(page(body, {}, [])).text)


def test_skipped_problems_are_told(found: dict[str, Any]) -> None:
    body = copy.deepcopy(found)
    body["methods"]["rft"]["skipped"] = 3
    assert "3 problems were skipped" in "".join(Reader(page(body, {}, [])).text)
    assert "were skipped" not in "".join(Reader(page(found, {}, [])).text)


# -- words ------------------------------------------------------------------------------------------------------------


def method(value: float, low: float | None = None, difference: float = 0.1) -> dict[str, Any]:
    versus = None
    if low is not None:
        versus = {"baseline": "sft", "difference": {"value": difference, "low": low, "high": 0.3, "n": 900}}
    return {"accuracy": {"value": value, "low": 0.1, "high": 0.9, "n": 900}, "versus": versus}


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        (
            {"sft": method(0.7), "step_dpo": method(0.8, 0.02)},
            "Per-step DPO solves 80.0% of 900 test problems, 10.0 points more than SFT",
        ),
        (
            {"sft": method(0.7), "rft": method(0.71, -0.02)},
            "RFT solves 71.0% of 900 test problems; it cannot be told apart from SFT",
        ),
        ({"sft": method(0.7), "rft": method(0.6, -0.3, -0.1)}, "SFT solves 70.0% of 900 test problems"),
        ({}, "No method has been evaluated in this run"),
    ],
)
def test_headline_claims_no_more_than_was_measured(methods: dict[str, Any], expected: str) -> None:
    titles = {"sft": "SFT", "rft": "RFT", "step_dpo": "per-step DPO"}
    assert headline({"methods": methods, "titles": titles, "evaluation": {"split": "test"}}) == expected


@pytest.mark.parametrize(("value", "text"), [(0.25, "+0.25"), (-0.5, "−0.50"), (0.0, "0.00"), (-0.001, "0.00")])
def test_signed(value: float, text: str) -> None:
    assert signed(value) == text


def test_counts_are_escaped_and_grouped() -> None:
    assert counts({"tokens": 12_345.0, "a<b": 1}) == "<span>12,345 tokens</span> · <span>1 a&lt;b</span>"
    assert counts({"engine_seconds": 1.25}) == "<span>1.25 engine seconds</span>"
