"""Credit for traces that others wrote: as the stage of a run, but of every problem."""

from __future__ import annotations

from typing import Any

from app.credit.problem import Credit, credit_problem
from app.credit.stage import CreditWorker
from app.credit.stage import run as run_credit
from app.judged import Judged
from app.records import Problem
from app.stage import StageContext


class GivenCredit(CreditWorker):
    """Looks at problems without a right trace too. No given trace is a rollout: who knows how it was drawn?"""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.alike = False

    async def _problem(self, problem: Problem, samples: list[Judged]) -> Credit:
        return await credit_problem(problem, samples, self.sampler, self.texts, self.settings, False, every=True)


def run(context: StageContext) -> None:
    """Credit for every shard of given traces."""
    run_credit(context, GivenCredit)
