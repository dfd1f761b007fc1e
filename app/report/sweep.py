"""Error against a setting, as a small figure."""

from __future__ import annotations

from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from app.records import digest
from app.report.figures import NARROW, PAINT, STYLE, svg
from app.report.table import count, percent


def figure(sweep: dict[str, Any], colour: str, of: str) -> str:
    """The values of one key side by side, evenly apart, with their errors, as SVG. `of` says what error."""
    points = sweep["points"]
    with rc_context(STYLE | {"axes.spines.left": True, "ytick.labelcolor": PAINT["muted"]}):
        drawing = Figure(figsize=(NARROW, 3), layout="constrained")
        axes = drawing.subplots()
        places, errors = range(len(points)), [p["error"] for p in points]
        bars = [[p["error"] - p["low"] for p in points], [p["high"] - p["error"] for p in points]]
        axes.errorbar(places, errors, bars, fmt="o-", color=colour, markersize=6, linewidth=1.5)
        axes.set_xticks(places, [str(p["value"]) for p in points])
        axes.set_xlim(-0.5, len(points) - 0.5)
        axes.yaxis.set_major_formatter(lambda value, _: percent(value, 0))
        axes.set_xlabel(sweep["key"])
        axes.set_ylabel(of)
        axes.set_title(f"{sweep['name']}, {count(sweep['size'])} problems")
        axes.grid(axis="y")
        name = f"sweep-{digest(of, sweep['line'], sweep['key'], sweep['size'], size=4)}"
        return svg(drawing, name, f"{of.capitalize()} of {sweep['name']} against {sweep['key']}")
