"""The table a run prints at its end, and the words for numbers that table and page share."""

from __future__ import annotations

from typing import Any

EMPTY = "–"
WORKING = ("synthesis", "sampling", "credit", "training", "evaluation")  # other stages only carry tokens on


def tokens_of(stage: str, counts: dict[str, float]) -> float:
    """Tokens a stage sampled or trained on; 0 for one that only selects or judges."""
    return counts.get("tokens", 0) if stage.partition("/")[0] in WORKING else 0


def percent(value: float | None, digits: int = 1) -> str:
    """0.1234 as 12.3%."""
    return EMPTY if value is None else f"{100 * value:.{digits}f}%"


def points(value: float | None) -> str:
    """A difference of shares in percentage points, always with its sign."""
    if value is None:
        return EMPTY
    text = f"{100 * value:+.1f}"
    return {"+0.0": "0.0", "-0.0": "0.0"}.get(text, text).replace("-", "−")


def count(value: float | None) -> str:
    """12345 as 12,345."""
    return EMPTY if value is None else f"{value:,.0f}"


def compact(value: float | None) -> str:
    """12345 as 12.3k: for figures and tight tables."""
    if value is None:
        return EMPTY
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """Seconds in the two units that matter: 8.2 s, 3 min 20 s, 2 h 5 min."""
    if seconds is None:
        return EMPTY
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def interval(estimate: dict[str, Any], signed: bool = False) -> str:
    """The 95% interval of an estimate: `[71.9, 77.4]`."""
    if estimate["n"] == 0:
        return EMPTY
    if signed:
        return f"[{points(estimate['low'])}, {points(estimate['high'])}]"
    return f"[{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"


def accuracy_table(results: dict[str, Any]) -> str:
    """Greedy accuracy of every method as plain text, with paired differences from the baseline."""
    methods = results["methods"]
    if not methods:
        return "no method was evaluated"
    titles = results["titles"]
    baseline = titles.get(results["baseline"], "")
    rows: list[tuple[str, ...]] = [
        ("method", "accuracy", "95% interval", f"vs {baseline}, points", "95% interval", "problems", "undecided")
    ]
    for name in results["order"]:
        method = methods[name]
        accuracy, versus = method["accuracy"], method["versus"]
        rows.append(
            (
                titles[name],
                percent(accuracy["value"]),
                interval(accuracy),
                points(versus["difference"]["value"]) if versus else "",
                interval(versus["difference"], signed=True) if versus else "",
                count(accuracy["n"]),
                count(accuracy["undecided"]),
            )
        )
    if not any(method["accuracy"]["undecided"] for method in methods.values()):
        rows = [row[:-1] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([lines[0].rstrip(), rule, *(line.rstrip() for line in lines[1:])])
