"""Greedy accuracy of checkpoints on validation problems, beside a training that goes on. No ray here: the launcher
puts it into an actor.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from app.evaluation.settings import EvaluationSettings
from app.evaluation.stage import EvaluationWorker, work
from app.policy import base_policy, policy_at
from app.recipe import Recipe
from app.records import JUDGED
from app.remote_folder import borrowed
from app.sampling.stage import EngineJob
from app.store import Output
from app.verification.gate import check_references


def check(recipe: Recipe, problems: Output) -> None:
    """Raise UserError where too many references of the validation problems cannot be read."""
    check_references(problems, "validation", recipe.verification, "evaluation beside training")


def arguments(recipe: Recipe) -> tuple[EngineJob, EvaluationSettings]:
    """What of a recipe a HeldOut is given."""
    return work(recipe, base_policy(recipe.model))


class HeldOut:
    """Asks one engine the first `count` validation problems for each checkpoint; only weights are exchanged.

    Args:
        job: how the engine runs; it begins with the policy it is first asked for, not with the one named here.
        settings: of which `max_tokens` counts.
        problems: the stage with the validation split.
        count: problems to ask, the first by id, so that every checkpoint answers the same ones.
    """

    worker_class = EvaluationWorker  # tests put a scripted engine here

    def __init__(self, job: EngineJob, settings: EvaluationSettings, problems: Output, count: int) -> None:
        self.job, self.problems = job, problems
        changes = {"split": "validation", "samples": 0, "problems_per_shard": count}
        self.settings = settings.model_copy(update=changes)
        self.worker: EvaluationWorker | None = None

    async def evaluate(self, path: str, fingerprint: str) -> dict[str, float]:
        """Answer with the weights at `path`, a folder or its URI: accuracy over the judged answers, and costs."""
        began = time.monotonic()
        with borrowed(path) as folder:
            policy = policy_at(Path(folder), fingerprint, self.problems.root)
            if self.worker is None:
                self.worker = self.worker_class(
                    replace(self.job, policy=policy), self.settings, self.problems, self.problems
                )
            elif policy.adapter:
                self.worker.engine = self.worker.engine.serving(policy.adapter)
                self.worker.policy = policy
            else:
                await self.worker.engine.load_weights(folder)
                self.worker.policy = policy
            answered = await self.worker.answer(0)  # an adapter is read at its first request
        outcomes = [verdict.outcome for verdict in answered.verdicts]
        judged = sum(outcome in JUDGED for outcome in outcomes)
        tokens = sum(len(trace.token_ids) for trace in answered.traces)
        return {
            "accuracy": outcomes.count("correct") / judged if judged else 0.0,
            "correct": float(outcomes.count("correct")),
            "judged": float(judged),
            "unfinished": float(sum(verdict.reason == "unfinished" for verdict in answered.verdicts)),
            "answer_tokens": tokens / len(outcomes) if outcomes else 0.0,
            "seconds": time.monotonic() - began,
        }
