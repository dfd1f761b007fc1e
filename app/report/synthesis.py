"""What writing new problems gave, for results.json: yield by strategy and reason, cost, solve rates, certificate."""

from __future__ import annotations

from collections import Counter
from typing import Any

from app.store import Output

KEPT = "kept"  # as yield.json names the attempts that gave a problem


def synthesis(output: Output, stage: dict[str, Any]) -> dict[str, Any] | None:
    """The account of stage synthesis. None where it was finished before it kept one.

    Args:
        stage: its entry among the results' stages: tokens, seconds and cost.
    """
    try:
        told, certificate = output.read_json("yield.json"), output.read_json("contamination.json")
    except FileNotFoundError:
        return None
    reasons = sum((Counter(ends) for ends in told["by_strategy"].values()), Counter[str]())
    del reasons[KEPT]
    kept = told["kept"]
    each = {"requests": told["requests"], "tokens": told["tokens"], "seconds": stage["seconds"], "cost": stage["cost"]}
    return {
        "wanted": told["wanted"],
        "kept": kept,
        "attempts": told["attempts"],
        "strategies": {name: _strategy(ends) for name, ends in told["by_strategy"].items()},
        "reasons": dict(reasons.most_common()),
        "each": {name: value / kept if kept and value is not None else None for name, value in each.items()},
        "solve_rates": told.get("solve_rates"),
        "certificate": certificate,
    }


def _strategy(ends: dict[str, int]) -> dict[str, Any]:
    """Attempts of one strategy, those that were kept, and why most of the others were not."""
    attempts, kept = sum(ends.values()), ends.get(KEPT, 0)
    lost = sorted(((count, reason) for reason, count in ends.items() if reason != KEPT), reverse=True)
    return {"attempts": attempts, "kept": kept, "most_lost": [[reason, count] for count, reason in lost[:2]]}
