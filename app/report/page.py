"""One self-contained report page: no network, no fonts to fetch, and nothing a model wrote is ever markup."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from app.cost import money
from app.report import figures
from app.report.gallery import Card
from app.report.table import compact, count, duration, interval, percent, points

FOLDER = Path(__file__).parent
TEMPLATES = Environment(
    loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
MARKS = {"correct": "✓", "incorrect": "✗", "unparsed": "?", "timeout": "–", "error": "–"}
KINDS = {"sampled": "sampled for training", "tested": "held-out answers"}  # what the page's filters offer, by tag
CONTENTS = {
    "correct": "with a correct trace",
    "incorrect": "with an incorrect trace",
    "pit": "with a first pit",
    "unparsed": "with an unparsed trace",
    "timeout": "with a timeout",
    "error": "with an error",
}
RULE = (
    "An answer the verifier cannot read (unparsed) counts as wrong; timeouts and errors of the verifier are undecided: "
    "left out of every share and counted apart."
)

Losses = dict[str, tuple[list[float], list[float]]]


def page(results: dict[str, Any], losses: Losses, cards: list[Card]) -> str:
    """The whole report as HTML.

    Args:
        results: as made by `app.report.results`.
        losses: training loss by method: steps and values.
        cards: the problems whose traces are shown.
    """
    script = (FOLDER / "explorer.js").read_text()
    methods = {name: results["methods"][name] for name in results["order"]}
    titles = results["titles"]
    columns = ("steps", "examples", "tokens")

    def accuracy(narrow: bool) -> Markup | None:
        return Markup(figures.accuracy(methods, titles, results["baseline"], narrow)) if methods else None

    return TEMPLATES.get_template("page.html").render(
        r=results,
        run=results["run"],
        order=results["order"],
        colours=results["colours"],
        kind="report",
        headline=headline(results),
        facts=facts(results),
        rule=RULE,
        skipped=skipped(methods),
        methods=methods,
        numbers={name: number % figures.MOST for number, name in enumerate(methods)},
        accuracy=accuracy(narrow=False),
        accuracy_narrow=accuracy(narrow=True),
        attempts=Markup(figures.attempts(methods, titles)) if ks_of(methods) else None,
        ks=ks_of(methods),
        solve_rates=Markup(figures.solve_rates(rates)) if (rates := solve_rates_of(results)) else None,
        outcomes={
            name: Markup(figures.outcomes(each["yield"]["outcomes"], name))
            for name, each in results["samples"].items()
            if each["yield"]
        },
        yield_stages=[s for s in results["stages"] if s["stage"].partition("/")[0] in YIELDING],
        spending=Markup(figures.spending(results["stages"])),
        engines={
            name: Markup(figures.engines(each["engines"], name))
            for name, each in results["samples"].items()
            if each["engines"]
        },
        curves=Markup(figures.curves(losses, titles, results["order"])) if losses else None,
        training_columns=[c for c in columns if any(m["training"] and c in m["training"] for m in methods.values())],
        cards=cards,
        tags=telling(cards),
        kinds=KINDS,
        contents=CONTENTS | compared(methods, titles, results["baseline"]),
        recipe=yaml.safe_dump(results["recipe"], sort_keys=False, allow_unicode=True),
        titles=titles,
        marks=MARKS,
        paints=figures.OUTCOME_PAINTS,
        script=Markup(script),
        script_hash=Markup("sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()),
        percent=percent,
        points=points,
        interval=interval,
        count=count,
        compact=compact,
        duration=duration,
        hours=hours,
        money=money,
        counts=counts,
        signed=signed,
        p_value=p_value,
    )


def telling(cards: list[Card]) -> set[str]:
    """Tags that tell cards apart: a filter that leaves all of them is no filter."""
    found = {tag for card in cards for tag in card.tags}
    return {tag for tag in found if not all(tag in card.tags for card in cards)}


def compared(methods: Iterable[str], titles: Mapping[str, str], baseline: str) -> dict[str, str]:
    """What the filters offer of held-out answers, by the tags of app/report/gallery.py."""
    words = {}
    for name in methods:
        if name != baseline:
            words[f"won-{name}"] = f"{titles[name]} right, {titles[baseline]} wrong"
            words[f"lost-{name}"] = f"{titles[name]} wrong, {titles[baseline]} right"
    return words


YIELDING = ("problems", "synthesis", "sampling", "verification", "credit", "datasets")


def headline(results: dict[str, Any]) -> str:
    """One true sentence on the best method: how good, and whether it is better than the baseline beyond chance."""
    methods = {n: m for n, m in results["methods"].items() if m["accuracy"]["value"] is not None}
    if not methods:
        return "No method has been evaluated in this run"
    best = max(methods, key=lambda name: methods[name]["accuracy"]["value"])
    accuracy, versus = methods[best]["accuracy"], methods[best]["versus"]
    titles = results["titles"]
    title = titles[best][0].upper() + titles[best][1:]
    asked = f"{count(accuracy['n'])} {results['evaluation']['split']} problems"
    said = f"{title} solves {percent(accuracy['value'])} of {asked}"
    if versus is None:
        return said
    difference, other = versus["difference"], titles[versus["baseline"]]
    if difference["n"] == 0:
        return said
    if difference["low"] > 0:
        return f"{said}, {abs(100 * difference['value']):.1f} points more than {other}"
    return f"{said}; it cannot be told apart from {other}"


def facts(results: dict[str, Any]) -> list[dict[str, str]]:
    """The few numbers at the top of the page."""
    out = []
    titles = results["titles"]
    for name in results["order"]:
        versus = results["methods"][name]["versus"]
        if versus and name != "base" and versus["difference"]["n"]:
            note = f"points, 95% interval {interval(versus['difference'], signed=True)}"
            out.append(
                _fact(f"{titles[name]} vs {titles[versus['baseline']]}", points(versus["difference"]["value"]), note)
            )
    yields = [each["yield"] for each in results["samples"].values() if each["yield"]]
    if accepted := sum(y["outcomes"]["correct"] for y in yields):
        traces, tokens = sum(y["traces"] for y in yields), sum(y["tokens"] for y in yields)
        note = f"{percent(accepted / traces)} of {count(traces)} traces accepted"
        out.append(_fact("per accepted trace", f"{tokens / accepted:,.0f} tokens", note))
    if results["cost"]:
        note = f"{money(results['cost']['per_accepted'], results['cost']['currency'])} an accepted trace"
        out.append(_fact("cost", money(results["cost"]["total"], results["cost"]["currency"]), note))
    tokens, seconds = (sum(s[field] for s in results["stages"]) for field in ("tokens", "seconds"))
    out.append(_fact("stage time", duration(seconds), f"{compact(tokens)} tokens sampled or trained on"))
    return out


def _fact(name: str, value: str, note: str) -> dict[str, str]:
    return {"name": name, "value": value, "note": note}


def ks_of(methods: dict[str, Any]) -> list[str]:
    """The k for which pass@k was measured for every method."""
    lists = [list(m["pass_at_k"]) for m in methods.values()]
    return [k for k in lists[0] if all(k in other for other in lists)] if lists else []


def solve_rates_of(results: dict[str, Any]) -> list[int]:
    """New problems by solve rate; none where no policy tried them."""
    written = results["synthesis"]
    return (written["solve_rates"] or []) if written else []


def skipped(methods: dict[str, Any]) -> str:
    """What to say of problems that were not asked, empty where all were."""
    most = max((m["skipped"] for m in methods.values()), default=0)
    return f"{count(most)} problems were skipped: their prompt does not fit the model's context." if most else ""


def counts(values: dict[str, float]) -> Markup:
    """Counts of a stage as `12,345 tokens · 40 problems`, no line break inside one."""
    cells = [
        Markup("<span>{}</span>").format(f"{_number(value)} {key.replace('_', ' ')}") for key, value in values.items()
    ]
    return Markup(" · ").join(cells)


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def hours(seconds: float | None) -> str:
    """Seconds of something held as hours."""
    return compact(None if seconds is None else seconds / 3600)


def signed(value: float) -> str:
    """An advantage: +0.25, 0.00, −0.50."""
    text = f"{value:+.2f}"
    return {"+0.00": "0.00", "-0.00": "0.00"}.get(text, text).replace("-", "−")


def p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
