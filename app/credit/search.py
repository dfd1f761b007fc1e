"""Where a wrong trace went wrong: small async programs that decide which prefixes to roll out.

A program sees one trace as `steps` numbered 1 to n, and a callback: `await rollouts(step, k)` gives the first k
rollouts after that step (0: from the bare problem), sampling those there are not yet. Asking again is free, so
programs need no memory of their own, and the same trace gives the same answer whatever else runs beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.credit.values import FAILED, Estimate, dead_pit, estimate, lowest_pit
from app.records import Trace, Verdict

Rollouts = Callable[[int, int], Awaitable[list[tuple[Trace, Verdict]]]]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a search learned of one trace: values of the prefixes it looked at, by step, and the first pit if found."""

    values: dict[int, Estimate]
    first_pit: int | None
    posterior: tuple[float, ...] = ()  # chance of each step 1 to n to be the one at which the trace was lost
    pit_by_rollouts: int | None = None  # the pit that the rollouts alone name, without the sums written in the steps


async def exhaustive(steps: int, rollouts: Rollouts, k: int, start: Estimate) -> Finding:
    """K rollouts after every step; the pit is the first step with the lowest Q (arXiv 2406.14532).

    Args:
        steps: number of steps n of a finished wrong trace; Q_n = 0 is known, and so not sampled.
        rollouts: the callback above.
        k: rollouts a prefix.
        start: what is known of the problem itself (step 0) from its plain samples; rolled out only where that is
            nothing.
    """
    inner = range(1, steps)
    first, *found = await asyncio.gather(_start(rollouts, k, start), *(_value(rollouts, step, k) for step in inner))
    values = known_values({0: first, steps: FAILED, **dict(zip(inner, found, strict=True))})
    return Finding(values, lowest_pit(_shares(values)))


async def sequential(steps: int, rollouts: Rollouts, k: int, start: Estimate) -> Finding:
    """K rollouts after one step at a time, to the first step from which none ends right (Self-Explore, 2404.10346).

    Arguments as for `exhaustive`. Steps behind the pit cost nothing. No pit is found where no rollout from the problem
    itself ends right, or where none of a prefix on the way could be judged.
    """
    values = {0: await _start(rollouts, k, start), steps: FAILED}
    step = 0
    while values[step].correct and step + 1 < steps:
        step += 1
        values[step] = await _value(rollouts, step, k)
    values = known_values(values)
    return Finding(values, dead_pit(_shares(values)))


async def binary(steps: int, rollouts: Rollouts, k: int, start: Estimate) -> Finding:
    """Halve the range between a prefix some rollout finishes and one that none does (as OmegaPRM, arXiv 2406.06592).

    Supposes that a trace that went wrong stays wrong. Arguments as for `exhaustive`; about log2(n) k rollouts. No pit
    is found where no rollout from the problem itself ends right, or where none of a prefix it has to decide on could
    be judged.
    """
    values = {0: await _start(rollouts, k, start), steps: FAILED}
    alive, dead = 0, steps
    while values[0].correct and dead - alive > 1:
        middle = (alive + dead) // 2
        values[middle] = await _value(rollouts, middle, k)
        if not values[middle].judged:
            break
        alive, dead = (middle, dead) if values[middle].correct else (alive, middle)
    values = known_values(values)
    return Finding(values, dead_pit(_shares(values)))


async def _start(rollouts: Rollouts, k: int, start: Estimate) -> Estimate:
    return start if start.judged else await _value(rollouts, 0, k)


async def _value(rollouts: Rollouts, step: int, k: int) -> Estimate:
    return estimate(await rollouts(step, k))


def known_values(values: dict[int, Estimate]) -> dict[int, Estimate]:
    """Values in order of steps, without those of which nothing is known."""
    return {step: values[step] for step in sorted(values) if values[step].judged}


def _shares(values: dict[int, Estimate]) -> dict[int, float]:
    return {step: value.correct / value.judged for step, value in values.items()}


SEARCHES = {"exhaustive": exhaustive, "sequential": sequential, "binary": binary}
