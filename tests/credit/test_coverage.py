"""Do intervals hold the true values, and does confidence mean what it says? On simulated traces with known values."""

from __future__ import annotations

import asyncio
import random

import pytest

from app.credit.problem import credit_problem
from app.credit.settings import CreditSettings
from app.records import StepValue
from app.tokens import TokenText
from tests.credit.bernoulli import PROBLEM, Bernoulli, decode, right, sampler, wrong

TRACES = 250


def simulated(
    search: str, seed: int, rising: bool = False, **settings
) -> list[tuple[list[float], int, list[StepValue]]]:
    """Traces of 4 to 8 steps that lose a chance of 0.3 to 1 at one of them: true values, that step, credit's rows.

    `rising`: the chance grows up to there, as the belief of app/credit/changepoint.py supposes; else it stays the same.
    """
    rng, out = random.Random(seed), []
    how = CreditSettings.model_validate({"search": search, **settings})
    for number in range(TRACES):
        steps = rng.randint(4, 8)
        fall, alive = rng.randint(1, steps), rng.uniform(0.3, 1)
        growth = [alive ** ((steps - i) / steps if rising else 1) for i in range(fall)]
        q = growth + [rng.uniform(0, 0.05)] * (steps - fall)
        samples = [wrong(steps), *(right(n) for n in range(1, 8) if rng.random() < alive or n == 1)]
        found = asyncio.run(
            credit_problem(PROBLEM, samples, sampler(Bernoulli(q), number), TokenText(decode), how, True)
        )
        out.append((q, fall, found.values))
    return out


@pytest.mark.parametrize(("search", "least"), [("exhaustive", 0.92), ("binary", 0.92), ("adaptive", 0.92)])
def test_intervals_cover(search: str, least: float) -> None:
    """All rows of inner prefixes. The adaptive search stops where it is sure, and its intervals hold all the same."""
    inside = [
        row.low <= q[row.step] <= row.high
        for q, _, rows in simulated(search, 0)
        for row in rows[1:-1]
        if row.q is not None
    ]
    assert len(inside) > 300 and sum(inside) / len(inside) > least


@pytest.mark.parametrize("search", ["exhaustive", "binary", "adaptive"])
def test_confidence_is_no_boast(search: str) -> None:
    """Of the pits it is at least so sure of, at least about that share is right."""
    pits = [
        (row.confidence, row.step == fall) for _, fall, rows in simulated(search, 1) for row in rows if row.first_pit
    ]
    for sure in (0.5, 0.7, 0.8):
        hits = [hit for confidence, hit in pits if confidence >= sure]
        assert len(hits) > 50 and sum(hits) / len(hits) > sure - 0.05


@pytest.mark.parametrize(("rising", "slack"), [(True, 0.05), (False, 0.2)])
@pytest.mark.parametrize("confidence", [0.7, 0.8, 0.95])
def test_the_adaptive_search_keeps_its_word(confidence: float, rising: bool, slack: float) -> None:
    """Where values rise as it supposes; where they stay flat it is too sure of itself, which docs/credit.md says."""
    pits = [
        (row.confidence, row.step == fall)
        for _, fall, rows in simulated("adaptive", 2, rising, confidence=confidence)
        for row in rows
        if row.first_pit
    ]
    sure, hits = (sum(column) / len(pits) for column in zip(*pits, strict=True))
    assert len(pits) > 0.9 * TRACES and sure > confidence - 0.05 and hits > sure - slack
