"""Values of step prefixes: Q with its interval, advantages, and the first pit.

The setting is the paper's (arXiv 2406.14532): a state is a problem and the steps so far, an action is the next step,
the reward is 1 where the final answer is right. Q_i is the probability that the rollout policy, going on after step
i, ends right; Q_0 is the problem's own value. The advantage of step i is A_i = Q_i - Q_{i-1}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from app.records import Trace, Verdict
from app.statistics import wilson


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is known of one prefix: `correct` of `judged` rollouts. `exact`: the value is certain, not sampled."""

    correct: int = 0
    judged: int = 0
    exact: bool = False

    @property
    def q(self) -> float | None:
        """Q, or None where no rollout was judged."""
        return self.correct / self.judged if self.judged else None

    @property
    def interval(self) -> tuple[float, float]:
        """95% bounds of Q."""
        if self.exact and self.q is not None:
            return self.q, self.q
        return wilson(self.correct, self.judged)

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(self.correct + other.correct, self.judged + other.judged, self.exact or other.exact)


FAILED = Estimate(0, 1, exact=True)  # after the last step of a finished wrong trace nothing can change any more
SOLVED = Estimate(1, 1, exact=True)  # nor after that of a right one


def best_of(q: float, k: int) -> float:
    """Chance that the best of k independent rollouts is right where one is right with chance q.

    The paper's rollout policy (best of K = 5). It never falls with q, so bounds of q become bounds of this.
    """
    return q if k == 1 else 1 - (1 - q) ** k


def fall(before: Estimate, after: Estimate) -> bool:
    """Whether Q fell for certain: Newcombe's 95% interval of the difference (1998, method 10) lies below 0."""
    if before.q is None or after.q is None:
        return False
    (low, _), (_, high) = before.interval, after.interval
    return after.q - before.q + sqrt((high - after.q) ** 2 + (before.q - low) ** 2) < 0


def counts(trace: Trace, verdict: Verdict) -> bool:
    """Whether a rollout says anything about its prefix: it came to its own end and was judged.

    One that was cut off (by max_tokens, the context or an abort) or whose judging failed is no failure of the prefix.
    """
    return trace.finish_reason == "stop" and verdict.judged


def estimate(rollouts: Sequence[tuple[Trace, Verdict]]) -> Estimate:
    """Q's counts over the rollouts that say anything."""
    told = [verdict.correct for trace, verdict in rollouts if counts(trace, verdict)]
    return Estimate(sum(told), len(told))


def advantages(values: Mapping[int, float]) -> dict[int, float]:
    """A_i = Q_i - Q_{i-1} for every step i >= 1 where both values are known."""
    return {step: q - values[step - 1] for step, q in sorted(values.items()) if step >= 1 and step - 1 in values}


def lowest_pit(values: Mapping[int, float]) -> int | None:
    """The paper's first pit: the first step with the lowest Q.

    Args:
        values: Q by step, 0 = the empty prefix.

    Returns:
        The first of the steps i >= 1 at which Q is lowest. None where that is no fall (Q_i is not below Q_0: the
        policy could not solve the problem before the trace began) and where the step before it is unknown.
    """
    steps = sorted(step for step in values if step >= 1)
    if not steps or 0 not in values:
        return None
    pit = min(steps, key=lambda step: values[step])
    return pit if values[pit] < values[0] and pit - 1 in values else None


def dead_pit(values: Mapping[int, float], alive: float = 0.0) -> int | None:
    """The first step after which no rollout (at most a share of `alive`) ends right, all steps known before it living.

    Self-Explore's definition (0 of 4 rollouts), and what binary search finds. None where step 0 is dead already
    (nothing to lose), where no step is, or where the step before the first dead one is unknown.
    """
    dead = [step for step, q in sorted(values.items()) if q <= alive]
    if not dead or dead[0] == 0 or dead[0] - 1 not in values:
        return None
    return dead[0]
