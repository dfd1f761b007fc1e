"""What a run cost, for results.json: by stage from the manifests (formula: app/cost.py), and an accepted trace."""

from __future__ import annotations

from typing import Any

from app.cost import cost, money, total
from app.report.table import EMPTY, duration
from app.sampling.cost_by_difficulty import yields
from app.settings import Prices
from app.store import Output

HELD = ("sessions", "cpu_seconds", "gpu_seconds")
MADE_BY = ("sampling", "verification")  # the stages that make an accepted trace


def stage_cost(prices: Prices | None, name: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """Sessions, resources held and cost of a finished stage; the cost is None without prices.

    All are None for a stage that was finished before manifests told what it held.
    """
    if any(key not in manifest for key in HELD):
        return dict.fromkeys((*HELD, "cost"))
    spent = cost(prices, name, manifest["cpu_seconds"], manifest["gpu_seconds"])
    return {**{key: manifest[key] for key in HELD}, "cost": spent}


def costs(prices: Prices | None, stages: list[dict[str, Any]], accepted: int) -> dict[str, Any] | None:
    """Of the whole run, and of an accepted trace: sampling and verification over correct traces. None unpriced."""
    if prices is None:
        return None
    made = total(stage["cost"] for stage in stages if stage["stage"].partition("/")[0] in MADE_BY)
    return {
        "currency": prices.currency,
        "prices": prices.model_dump(mode="json"),
        "total": total(stage["cost"] for stage in stages),
        "per_accepted": made / accepted if made is not None and accepted else None,
    }


def by_difficulty(sampling: Output, verification: Output) -> list[dict[str, Any]]:
    """What traces of easy and hard problems cost, a row a band of fail rates that has problems."""
    return [
        {
            "band": band,
            "problems": row.problems,
            "traces": row.traces,
            "accepted": row.accepted,
            "tokens": row.tokens,
            "engine_seconds": round(row.engine_seconds, 3),
            "tokens_per_accepted": row.tokens_each,
            "engine_seconds_per_accepted": row.seconds_each,
        }
        for band, row in yields(sampling, verification).items()
        if row.problems
    ]


def cost_lines(results: dict[str, Any]) -> str:
    """What a run cost, as text for the end of a run; empty where the recipe has no prices."""
    if results["cost"] is None:
        return ""
    found, currency = results["cost"], results["cost"]["currency"]
    paid = sorted((s for s in results["stages"] if s["cost"]), key=lambda s: -s["cost"])
    each = money(found["per_accepted"], currency)
    lines = [f"cost: {money(found['total'], currency)}" + ("" if each == EMPTY else f", {each} an accepted trace")]
    lines += [f"  {s['stage']:<20} {money(s['cost']):>10}  {duration(s['seconds'])}" for s in paid]
    return "\n".join(lines)
