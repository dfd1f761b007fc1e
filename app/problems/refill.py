"""How many more problems to attempt: until `count` are kept or the budget is spent, in waves of whole shards.

A wave's size follows from what earlier waves gave, which is in files: so a stopped run goes on with the same waves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from app.problems.settings import SynthesisSettings

LARGEST_SHARD = 32  # attempts
PILOT = 2  # shards after which tokens an attempt are known
SPARE = 1.1  # attempts above what the yield so far asks for: one wave more costs the start of all engines


@dataclass
class Spent:
    """What all attempts so far took, and how many problems they gave."""

    attempts: int = 0
    requests: int = 0
    tokens: int = 0
    kept: int = 0


def shard_size(settings: SynthesisSettings) -> int:
    """Attempts of one shard."""
    return min(LARGEST_SHARD, settings.count)


def requests_at_most(settings: SynthesisSettings) -> int:
    """Requests of one attempt."""
    return 1 + settings.check + settings.vote.solutions


def next_shards(settings: SynthesisSettings, spent: Spent) -> tuple[int, str]:
    """(shards to attempt next, why there are none)."""
    size, budget = shard_size(settings), settings.budget
    missing = settings.count - spent.kept
    if missing <= 0:
        return 0, ""
    rate = max(spent.kept, 1) / spent.attempts if spent.attempts else 1.0
    wanted = math.ceil(missing / rate * (SPARE if spent.attempts else 1) / size)
    limits = {"attempts": math.ceil(budget.attempts * settings.count / size) - spent.attempts // size}
    if budget.requests is not None:
        limits["requests"] = (budget.requests - spent.requests) // (requests_at_most(settings) * size)
    if budget.tokens is not None:
        each = spent.tokens / spent.attempts if spent.attempts else None
        limits["tokens"] = PILOT if each is None else math.floor((budget.tokens - spent.tokens) / max(each * size, 1))
    least = min(limits, key=lambda name: limits[name])
    if limits[least] <= 0:
        return 0, f"synthesis.budget.{least} is spent"
    return min(wanted, limits[least]), ""
