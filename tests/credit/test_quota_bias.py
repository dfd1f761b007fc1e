"""Q_0 where sampling stopped at quotas: the samples' share is too high, what credit says is not."""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import replace

import pytest

from app.credit.problem import credit_problem
from app.credit.settings import CreditSettings
from app.credit.stage import samples_are_rollouts
from app.records import Problem, StepValue, Trace, Verdict
from app.sampling.settings import SamplingSettings
from app.sampling.stopping import Search
from app.tokens import TokenText
from tests.credit.bernoulli import PROBLEM, PROMPT, Bernoulli, decode, ids, judge, sampler

CHANCE, PROBLEMS = 0.1, 1500
QUOTAS = SamplingSettings.model_validate({"samples": 60, "stopping": {"correct": 1}})


async def verdict(problem: Problem, trace: Trace) -> Verdict:
    return replace(judge(problem, [trace.text], [trace.finish_reason])[0], trace_id=trace.id)


async def both(number: int, settings: CreditSettings) -> tuple[float, float | None]:
    """The samples' share of right ones under the quotas, and Q_0 as credit writes it."""
    problem = replace(PROBLEM, id=f"p-{number}")
    engine = Bernoulli([CHANCE])
    search = Search(engine, problem, ids(PROMPT, end=False), QUOTAS, 0, "policy", verdict)
    await search.run(QUOTAS.samples)
    samples = [(trace, said) for trace, _, said in search.kept]
    alike = samples_are_rollouts(QUOTAS, settings)
    found = await credit_problem(problem, samples, sampler(engine), TokenText(decode), settings, alike)
    rows: list[StepValue] = [row for row in found.values if row.step == 0]
    return sum(v.correct for _, v in samples) / len(samples), rows[0].q if rows else None


@pytest.mark.parametrize("how", ["exhaustive", "binary", "adaptive"])
def test_quotas_do_not_bias_the_value_of_a_problem(how: str) -> None:
    settings = CreditSettings.model_validate({"search": how, "rollouts": 8})

    async def all_of_them() -> list[tuple[float, float | None]]:
        return [await both(number, settings) for number in range(PROBLEMS)]

    found = asyncio.run(all_of_them())
    assert statistics.mean(share for share, _ in found) == pytest.approx(0.26, abs=0.03)  # the bias that was there
    values = [q for _, q in found if q is not None]
    error = (CHANCE * (1 - CHANCE) / 8 / len(values)) ** 0.5
    assert len(values) > 0.8 * PROBLEMS
    assert statistics.mean(values) == pytest.approx(CHANCE, abs=3.5 * error)


def test_only_draws_of_a_fixed_number_and_the_same_kind_are_rollouts() -> None:
    credit, plain = CreditSettings(temperature=1.0), SamplingSettings(temperature=1.0)
    assert samples_are_rollouts(plain, credit)
    assert not samples_are_rollouts(QUOTAS, credit)
    for cut in ({"top_p": 0.9}, {"top_k": 20}, {"min_p": 0.05}):
        assert not samples_are_rollouts(SamplingSettings.model_validate(cut), credit)
    assert not samples_are_rollouts(SamplingSettings(temperature=0.5), credit)
