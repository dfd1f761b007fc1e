"""Figures as SVG text: drawn by matplotlib, coloured by the page's CSS variables so that they follow light and dark.

Matplotlib knows fixed colours only. It draws with stand-ins (PAINT), which are then replaced by `var(--name)`; text
stays text, in the page's font.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.report.table import compact, duration, percent, points

MOST = 64  # policies with a stand-in of their own; those after share it again
NAMES = ("ink", "muted", "rule", "accent", "good", "bad", "blank", *(f"policy-{i}" for i in range(MOST)))
PAINT = {name: f"#fe{i:02x}dc" for i, name in enumerate(NAMES)}
STYLE = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "text.color": PAINT["ink"],
    "axes.edgecolor": PAINT["rule"],
    "axes.labelcolor": PAINT["muted"],
    "axes.titlecolor": PAINT["ink"],
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.color": PAINT["rule"],
    "ytick.color": PAINT["rule"],
    "xtick.labelcolor": PAINT["muted"],
    "ytick.labelcolor": PAINT["ink"],
    "ytick.major.size": 0,
    "grid.color": PAINT["rule"],
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
WIDTH = 9.8  # inches; about the width of the page's column
NARROW = 4.6  # the same of a telephone's
OUTCOME_PAINTS = {"correct": "good", "incorrect": "bad", "unparsed": "blank", "timeout": "muted", "error": "ink"}
COLUMNS = 5  # panels, or entries of a key, side by side
ROW = 0.36  # inches a row of a figure with one row a method or stage


def svg(figure: Figure, name: str, label: str) -> str:
    """A figure as an SVG element that stands by itself in a page. `name` keeps its ids apart from other figures'."""
    sink = io.StringIO()
    with rc_context(STYLE | {"svg.hashsalt": name}):
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = sink.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<(metadata|style)\b.*?</\1>\s*", "", text, flags=re.DOTALL)  # its style would rule the whole page
    for paint, colour in PAINT.items():
        text = text.replace(colour, f"var(--{paint})")
    text = re.sub(r"font: ([^;\"']*?[\d.]+px) [^;\"]*", r"font: \1 var(--sans)", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(label, quote=True)}" ', 1)


def paint(number: int) -> str:
    """The stand-in for the colour of the policy of this number in the report's order."""
    return PAINT[f"policy-{number % MOST}"]


def accuracy(methods: dict[str, Any], titles: Mapping[str, str], baseline: str, narrow: bool = False) -> str:
    """Accuracy of every method with its interval, and its paired difference from the baseline beside it.

    `narrow` is for telephones: the differences stand below.
    """
    paired = {n: m["versus"]["difference"] for n, m in methods.items() if m["versus"] and n != "base"}
    panels, height = 2 if paired else 1, 0.95 + ROW * len(methods)  # base's own gap would squash all others
    with rc_context(STYLE):
        figure = Figure(figsize=(NARROW, panels * height) if narrow else (WIDTH, height), layout="constrained")
        if narrow:
            axes = figure.subplots(panels, 1, squeeze=False).flatten()
        else:
            axes = figure.subplots(1, panels, squeeze=False, sharey=True, width_ratios=(3, 2)[:panels]).flatten()
        for row, (name, method) in enumerate(methods.items()):
            _interval(axes[0], row, method["accuracy"], paint(row), percent(method["accuracy"]["value"]), (0, 1))
            if name in paired:
                _interval(axes[1], row, paired[name], paint(row), points(paired[name]["value"]))
        axes[0].set_xlim(0, 1)
        axes[0].xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        axes[0].set_title("greedy accuracy")
        for right in axes[1:]:
            right.set_title(f"difference from {titles[baseline]}, points")
            right.axvline(0, color=PAINT["muted"], linewidth=1)
            right.margins(x=0.12)
            right.xaxis.set_major_formatter(lambda value, _: points(value).removesuffix(".0"))
        for each in axes:
            each.set_yticks(range(len(methods)), [titles[name] for name in methods])
            each.set_ylim(len(methods) - 0.4, -0.75)
            each.grid(axis="x")
        said = "; ".join(f"{titles[n]} {percent(m['accuracy']['value'])}" for n, m in methods.items())
        name = "accuracy-narrow" if narrow else "accuracy"
        return svg(figure, name, f"Accuracy by method with 95% intervals: {said}")


def _interval(
    axes: Axes,
    row: float,
    estimate: dict[str, Any],
    colour: str,
    text: str,
    limits: tuple[float, float] = (float("-inf"), float("inf")),
) -> None:
    """A dot with its interval and its value above it, which stays within the limits of the axis."""
    value = estimate["value"]
    if value is None:
        return
    axes.plot([estimate["low"], estimate["high"]], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
    axes.plot(value, row, "o", color=colour, markersize=6.5)
    side = "left" if value - limits[0] < 0.06 else "right" if limits[1] - value < 0.06 else "center"
    axes.annotate(text, (value, row), (0, 6), textcoords="offset points", ha=side, fontsize=9)


def attempts(methods: dict[str, Any], titles: Mapping[str, str]) -> str:
    """pass@k and maj@k by k, a line a method."""
    with rc_context(STYLE | {"axes.spines.left": True, "ytick.labelcolor": PAINT["muted"]}):
        figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, field, title in zip(panels, ("pass_at_k", "maj_at_k"), ("pass@k", "maj@k"), strict=True):
            for number, (name, method) in enumerate(methods.items()):
                rows = [(int(k), e) for k, e in method[field].items() if e["n"]]
                ks, values = [k for k, _ in rows], [e["value"] for _, e in rows]
                axes.plot(ks, values, "-o", color=paint(number), markersize=4, label=titles[name])
                low, high = [e["low"] for _, e in rows], [e["high"] for _, e in rows]
                axes.fill_between(ks, low, high, color=paint(number), alpha=0.14, linewidth=0)
            axes.set_xscale("log", base=2)
            axes.set_xticks(ks, [str(k) for k in ks])
            axes.minorticks_off()
            axes.set_xlabel("samples, k")
            axes.set_title(title)
            axes.grid(axis="y")
            axes.set_ylim(0, 1.02)
        panels[0].yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        figure.legend(
            *panels[0].get_legend_handles_labels(),
            loc="outside upper center",
            ncols=min(len(methods), COLUMNS),
            frameon=False,
        )
        return svg(figure, "attempts", "pass@k and majority accuracy by number of samples, for each method")


def outcomes(counts: dict[str, int], name: str) -> str:
    """What became of the sampled traces: one bar of parts; its key is in the page."""
    total = sum(counts.values())
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.4))
        axes = figure.add_axes((0, 0, 1, 1))
        start = 0
        for name, size in counts.items():
            axes.barh(0, size, left=start, height=1, color=PAINT[OUTCOME_PAINTS[name]])
            start += size
        axes.set_xlim(0, max(total, 1))
        axes.set_ylim(-0.5, 0.5)
        axes.axis("off")
        said = ", ".join(f"{name} {size:,}" for name, size in counts.items())
        drawn = svg(figure, f"outcomes-{name}", f"Verdicts of {total:,} sampled traces: {said}")
        return drawn.replace("<svg ", '<svg preserveAspectRatio="none" ', 1)


def solve_rates(bins: Sequence[int]) -> str:
    """New problems by the policy's solve rate, in equal bins of [0, 1]."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.9), layout="constrained")
        axes = figure.subplots()
        width = 1 / len(bins)
        bars = axes.bar(
            [(place + 0.5) * width for place in range(len(bins))], bins, width=0.9 * width, color=PAINT["accent"]
        )
        axes.bar_label(bars, [f"{count:,}" if count else "" for count in bins], padding=2, fontsize=9)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, max([*bins, 1]) * 1.2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        axes.set_xlabel("solve rate")
        axes.set_yticks([])
        said = ", ".join(f"{place * width:.0%} to {(place + 1) * width:.0%}: {n:,}" for place, n in enumerate(bins))
        return svg(figure, "solve-rates", f"New problems by the policy's solve rate: {said}")


def spending(stages: Sequence[dict[str, Any]]) -> str:
    """Tokens and wall seconds of every stage, side by side."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.75 + 0.27 * len(stages)), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        names = [stage["stage"] for stage in stages]
        for axes, field, title, text in zip(
            panels, ("tokens", "seconds"), ("tokens", "wall time"), (compact, duration), strict=True
        ):
            values = [stage[field] for stage in stages]
            bars = axes.barh(range(len(names)), values, height=0.62, color=PAINT["accent"])
            axes.bar_label(bars, [text(v) if v else "" for v in values], padding=4, fontsize=9)
            axes.set_xlim(0, max([*values, 1e-9]) * 1.25)
            axes.set_title(title)
            axes.set_xticks([])
            axes.spines["bottom"].set_visible(False)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.4, -0.6)
        return svg(figure, "spending", "Tokens and wall time of every stage")


def engines(points: Sequence[dict[str, Any]], name: str) -> str:
    """Sampling engines over time: the busy share of their time, requests at once, tokens a second."""
    with rc_context(STYLE | {"axes.spines.left": True, "ytick.labelcolor": PAINT["muted"]}):
        figure = Figure(figsize=(WIDTH, 2.2), layout="constrained")
        panels = figure.subplots(1, 3)
        minutes = [point["seconds"] / 60 for point in points]
        titles = {"busy": "share of time with work", "requests": "requests at once", "tokens_per_second": "tokens/s"}
        for axes, (field, title) in zip(panels, titles.items(), strict=True):
            axes.plot(minutes, [point[field] for point in points], color=PAINT["accent"], linewidth=1.5)
            axes.set_title(title)
            axes.set_xlabel("minutes")
            axes.grid(axis="y")
            axes.locator_params(nbins=4)
            axes.set_ylim(bottom=0)
        panels[0].set_ylim(0, 1.05)
        panels[0].yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        panels[2].yaxis.set_major_formatter(lambda value, _: compact(value))
        return svg(
            figure, f"engines-{name}", "Sampling engines over time: share of time with work, requests, tokens a second"
        )


def curves(losses: dict[str, tuple[list[float], list[float]]], titles: Mapping[str, str], order: Sequence[str]) -> str:
    """Training loss by step, a panel a method: SFT's likelihood loss and DPO's are not on one scale."""
    with rc_context(STYLE | {"axes.spines.left": True, "ytick.labelcolor": PAINT["muted"]}):
        columns = min(len(losses), COLUMNS)
        rows = -(-len(losses) // columns)
        figure = Figure(figsize=(WIDTH, 2.2 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes in panels[len(losses) :]:
            axes.axis("off")
        for axes, (policy, (steps, values)) in zip(panels, losses.items(), strict=False):
            axes.plot(steps, values, color=paint(list(order).index(policy)), linewidth=1.5)
            axes.set_title(titles[policy])
            axes.set_xlabel("step")
            axes.grid(axis="y")
            axes.locator_params(nbins=4)
            axes.set_ylim(bottom=0)
        panels[0].set_ylabel("loss")
        return svg(figure, "curves", "Training loss by optimiser step: " + ", ".join(titles[m] for m in losses))
