"""The data curve as a table, a figure and a page of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from app.records import digest
from app.report.figures import COLUMNS, PAINT, STYLE, WIDTH, paint, svg
from app.report.page import TEMPLATES
from app.report.sweep import figure as sweep_figure
from app.report.table import EMPTY, count, percent, points

GREEDY = "greedy error"


def saved_text(saved: dict[str, Any] | None) -> str:
    """`7.9x [5.1, 12]`, or a bound where it lies beyond the baseline's sizes: `> 16x [9.1, > 16]`, `< 1x`."""
    if saved is None:
        return ""
    if saved["value"] is None:
        return EMPTY
    value, low, high = (_bounded(saved, saved[name]) for name in ("value", "low", "high"))
    return f"{value}x" if value == low == high and value[0] in "<>" else f"{value}x [{low}, {high}]"


def _bounded(saved: dict[str, Any], value: float) -> str:
    if saved["least"] < value < saved["most"]:
        return f"{value:.3g}"
    return f"> {saved['most']:.3g}" if value >= saved["most"] else f"< {saved['least']:.3g}"


def seeds_text(seeds: dict[str, float]) -> str:
    """`40.1% to 43.0% of 3`: the least and the greatest error of the seeds, and how many there are."""
    return f"{percent(min(seeds.values()))} to {percent(max(seeds.values()))} of {len(seeds)}"


def rows(curve: dict[str, Any]) -> list[tuple[str, ...]]:
    """Cells of the table, its head first: a row a method and size. Several seeds have a column of their own, and so
    have optimiser steps (of a policy and of those it started from) where they are known.
    """
    head = ["method", "problems", "error", "95% interval", f"data saved against {curve['titles'][curve['baseline']]}"]
    measured = [point for series in curve["methods"].values() for point in series["points"]]
    several = any(len(point["seeds"]) > 1 for point in measured)
    stepped = any("steps" in point for point in measured)
    body = [
        (
            curve["titles"][method],
            count(point["size"]),
            percent(point["error"]),
            f"[{100 * point['low']:.1f}, {100 * point['high']:.1f}]",
            saved_text(point["saved"]),
            *([seeds_text(point["seeds"])] if several else []),
            *([count(point.get("steps"))] if stepped else []),
        )
        for method, series in curve["methods"].items()
        for point in series["points"]
    ]
    head += ["error by seed"] * several + ["optimiser steps"] * stepped
    return [tuple(head), *body]


def table(curve: dict[str, Any]) -> str:
    """The rows as plain text, then the fitted laws and why readings are missing."""
    cells = rows(curve)
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        "  ".join(
            c.rjust(w) if i in (1, 2, 3) else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*(line.rstrip() for line in lines), *laws(curve), *reasons(curve)])


def laws(curve: dict[str, Any]) -> list[str]:
    """A sentence a fitted method."""
    out = []
    for method, series in curve["methods"].items():
        if fit := series["fit"]:
            low, high = fit["alpha_interval"]
            law = f"error = {fit['scale']:.3g} D^-{fit['alpha']:.3f} (95%: {low:.3f} to {high:.3f})"
            out.append(f"{curve['titles'][method]}: {law}")
    return out


def reasons(curve: dict[str, Any]) -> list[str]:
    """A sentence a reason why the data saved cannot be read at some points."""
    found: dict[str, list[str]] = {}
    for method, series in curve["methods"].items():
        for point in series["points"]:
            if point["saved"] and point["saved"]["value"] is None:
                found.setdefault(point["saved"]["reason"], []).append(
                    f"{curve['titles'][method]} at {count(point['size'])}"
                )
    return [f"{EMPTY} no reading for {', '.join(where)}: {reason}" for reason, where in found.items()]


def lines(curve: dict[str, Any]) -> list[str]:
    """The methods that have several sizes."""
    return [method for method, series in curve["methods"].items() if len(series["points"]) > 1]


def pairs(curve: dict[str, Any]) -> list[tuple[str, ...]]:
    """Cells of the table of each method of several sizes against each one before it, its head first."""
    shown = lines(curve)
    body = [
        (
            f"{curve['titles'][pair['method']]} against {curve['titles'][pair['other']]}",
            count(pair["size"]),
            points(pair["difference"]),
            f"[{points(pair['low'])}, {points(pair['high'])}]",
            ", ".join(points(value) for value in pair["seeds"].values()),
        )
        for pair in curve["differences"]
        if pair["method"] in shown and pair["other"] in shown
    ]
    return [("methods", "problems", "error, points", "95% interval", "by seed"), *body] if body else []


def figure(curve: dict[str, Any], of: str = GREEDY) -> str:
    """Error against training problems, both axes logarithmic, with the fitted laws, as SVG. `of` says what error.

    Where some methods have several sizes, those that have one are left to the table.
    """
    drawn = lines(curve) or list(curve["methods"])
    with rc_context(STYLE | {"axes.spines.left": True, "ytick.labelcolor": PAINT["muted"]}):
        drawing = Figure(figsize=(WIDTH, 4.2), layout="constrained")
        axes = drawing.subplots()
        axes.set_xscale("log")
        axes.set_yscale("log")
        for number, (method, series) in enumerate(curve["methods"].items()):
            if method not in drawn:
                continue
            sizes = [p["size"] for p in series["points"]]
            errors = [p["error"] for p in series["points"]]
            bars = [
                [p["error"] - p["low"] for p in series["points"]],
                [p["high"] - p["error"] for p in series["points"]],
            ]
            axes.errorbar(
                sizes, errors, bars, fmt="o", color=paint(number), markersize=6, label=curve["titles"][method]
            )
            if fit := series["fit"]:
                ends = [fit["smallest"], fit["largest"]]
                law = [fit["scale"] * size ** -fit["alpha"] for size in ends]
                axes.plot(ends, law, color=paint(number), linewidth=1.5)
        ticks = sorted({p["size"] for method in drawn for p in curve["methods"][method]["points"]})
        axes.set_xticks(ticks, [count(tick) for tick in ticks])
        marks = [m for m in (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1) if _seen(m, axes.get_ylim())]
        axes.set_yticks(marks, [percent(mark, 0) for mark in marks])
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_formatter(NullFormatter())
            axis.set_minor_locator(NullLocator())
        axes.set_xlabel("training problems")
        axes.set_ylabel(of)
        axes.grid(axis="y")
        drawing.legend(loc="outside upper center", ncols=min(len(drawn), COLUMNS), frameon=False)
        name = "curve" if of == GREEDY else f"curve-{digest(of, size=2)}"
        return svg(drawing, name, f"{of.capitalize()} against the number of training problems, by method")


def _seen(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def figures(curve: dict[str, Any], of: str = GREEDY) -> dict[str, str]:
    """All figures of a curve as SVG, by a name for a file: the curve's own, then a small one for each sweep."""
    numbers = {method: number for number, method in enumerate(curve["methods"])}
    found = {"curve": figure(curve, of)}
    for sweep in curve["sweeps"]:
        name = f"{sweep['run']}-{sweep['key']}-{sweep['size']}"
        name = name if name not in found else f"{name}-{len(found)}"  # other keys of the run differ
        found[name] = sweep_figure(sweep, paint(numbers[sweep["line"]]), of)
    return found


def alone(drawn: str, curve: dict[str, Any]) -> str:
    """A figure as a file of its own, on white, with the colours that a light page gives it."""
    light = Path(__file__).with_name("style.css").read_text().partition("@media")[0]
    values = dict(re.findall(r"--([\w-]+): ([^;]+);", light))
    values |= {f"policy-{n}": curve["colours"][method][0] for n, method in enumerate(curve["methods"])}
    drawn = re.sub(r"var\(--([\w-]+)\)", lambda found: values[found[1]].replace('"', "'"), drawn)
    return re.sub(r"(<svg [^>]*>)", r'\1<rect width="100%" height="100%" fill="#ffffff"/>', drawn, count=1)


def page(name: str, curves: dict[str, dict[str, Any]]) -> str:
    """Curves as one HTML file that works offline, each under what error it shows. All have the same methods."""
    first = next(iter(curves.values()))
    return TEMPLATES.get_template("curve.html").render(
        run=name,
        order=list(first["methods"]),
        colours=first["colours"],
        kind="data curve",
        headline="Error against training problems",
        script_hash=None,
        sections=[
            {
                "of": of,
                "curve": curve,
                "rows": rows(curve),
                "notes": [*laws(curve), *reasons(curve)],
                "pairs": pairs(curve),
                "figures": [Markup(drawn) for drawn in figures(curve, of).values()],
            }
            for of, curve in curves.items()
        ],
        count=count,
    )
