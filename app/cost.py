"""What a stage costs: its wall seconds times the resources its placement holds, at the recipe's prices.

    cost = sum over sessions of seconds / 3600 * (CPUs held * cpu_hour + GPUs held * gpu_hour)

A stage holds its whole pool from its first to its last second: actors (or workers) times what each asks for. So the
cost contains the start of the engines and the wait for slow shards, which are paid for too; it leaves out the head,
nodes that stand idle between stages, disks, traffic, and tokens that an endpoint charges for. A pool that may grow is
counted at its largest. Stages that run in the driver hold nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from app.recipe import Recipe
from app.settings import Prices, Rates

Role = Literal["sampler", "verifier", "trainer"]
ROLES: dict[str, Role] = {
    "synthesis": "sampler",
    "sampling": "sampler",
    "credit": "sampler",
    "evaluation": "sampler",
    "verification": "verifier",
    "training": "trainer",
}


@dataclass(frozen=True)
class Held:
    """Resources of a stage's whole pool. `actors` counts engines, verifiers or training workers."""

    actors: int
    cpus: float
    gpus: float


NOTHING = Held(0, 0.0, 0.0)


def held(recipe: Recipe, stage: str) -> Held:
    """What a stage's placement holds while it runs."""
    folder = stage.partition("/")[0]
    place = recipe.placement
    if folder == "training":
        training = place.training
        return Held(training.workers, training.workers * training.cpus, training.workers * training.gpus)
    if folder == "verification":
        return _pool(place.verification)
    if folder in ("sampling", "credit"):
        return _pool(place.sampling)
    if folder == "evaluation":
        return _pool(place.engines("evaluation"))
    if folder == "synthesis" and recipe.synthesis and recipe.synthesis.writer.kind == "vllm":
        return _pool(place.engines("writer"))
    return NOTHING


def engines(recipe: Recipe, stage: str) -> int:
    """Sampling engines that a stage holds; 0 for one that samples nothing."""
    return held(recipe, stage).actors if ROLES.get(stage.partition("/")[0]) == "sampler" else 0


def _pool(place: Any) -> Held:
    actors = max(place.actors, getattr(place, "max_actors", None) or 0)
    return Held(actors, actors * place.cpus, actors * getattr(place, "gpus", 0.0))


def rates(prices: Prices, stage: str) -> tuple[float, float]:
    """What an hour of a CPU and of a GPU costs on the nodes that a stage runs on."""
    role = ROLES.get(stage.partition("/")[0])
    own: Rates = getattr(prices, role) if role else Rates()
    cpu = prices.cpu_hour if own.cpu_hour is None else own.cpu_hour
    return cpu, prices.gpu_hour if own.gpu_hour is None else own.gpu_hour


def cost(prices: Prices | None, stage: str, cpu_seconds: float, gpu_seconds: float) -> float | None:
    """Currency units for CPU and GPU seconds held by a stage; None without prices."""
    if prices is None:
        return None
    cpu_hour, gpu_hour = rates(prices, stage)
    return (cpu_seconds * cpu_hour + gpu_seconds * gpu_hour) / 3600


def total(costs: Iterable[float | None]) -> float | None:
    """The sum; None where no cost is known."""
    known = [value for value in costs if value is not None]
    return sum(known) if known else None


def money(value: float | None, currency: str = "") -> str:
    """An amount to the hundredth, or, below 10, to three digits that count, such as `0.0000123 USD`."""
    if value is None:
        return "–"
    decimals = 2 if value >= 10 or value <= 0 else 2 - math.floor(math.log10(value))
    return f"{value:,.{decimals}f} {currency}".rstrip()
