"""At which step did a trace's value fall? A Bayesian change point over the steps, from rollouts of any of its prefixes.

Hypothesis c: before step c the trace is alive, from step c on it is dead. A rollout's chance to end right is a Beta
variable, one for each step it is drawn after. Its mean is small where the trace is dead; where it is alive it lies
between the problem's own value V (after step 0) and 1 (after the last step): V^((n - i) / n) after step i of n, as if
all were equally hard. A rollout from a living prefix that repeats the trace past step c has died with it: it counts
as lost, and how it ends tells of a dead trace. So one that ends right although it repeats many steps shows that those
are alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, inf, log

from app.statistics import log_beta

DEAD = 0.03  # mean chance that a rollout from a dead prefix ends right all the same
WEIGHT_DEAD = 6.0  # how many rollouts' worth that belief is
WEIGHT_ALIVE = 8.0
ALIVE_BOUNDS = (0.08, 0.92)  # no step is sure to be repaired, or to be lost


def entropy(p: float) -> float:
    """Entropy of a coin, nats."""
    return -sum(x * log(x) for x in (p, 1 - p) if x > 0)


@dataclass
class Change:
    """Belief over the change point of one trace.

    Args:
        steps: number of steps n; the change is at one of 1 to n.
        value: V of the problem, the share of its samples that end right, above 0.
        prior: weight of each change point 1 to n before any rollout; equal where None.
    """

    steps: int
    value: float
    prior: Sequence[float] | None = None
    right: dict[int, list[int]] = field(init=False, default_factory=dict)  # by step drawn after: last step each shares
    wrong: dict[int, list[int]] = field(init=False, default_factory=dict)

    def add(self, start: int, last: int, correct: bool) -> None:
        """A rollout after step `start` whose last step shared with the trace is `last`, start <= last < n."""
        (self.right if correct else self.wrong).setdefault(start, []).append(last)

    def alive(self, step: int) -> tuple[float, float]:
        """Beta parameters of the value after `step` while the trace is alive."""
        low, high = ALIVE_BOUNDS
        mean = min(high, max(low, self.value ** ((self.steps - step) / self.steps)))
        return mean * WEIGHT_ALIVE, (1 - mean) * WEIGHT_ALIVE

    @staticmethod
    def dead() -> tuple[float, float]:
        """The same once it is dead."""
        return DEAD * WEIGHT_DEAD, (1 - DEAD) * WEIGHT_DEAD

    def add_all(self, step: int, right: int, wrong: int) -> None:
        """Rollouts after a step of which only the endings are known."""
        for count, correct in ((right, True), (wrong, False)):
            for _ in range(count):
                self.add(step, step, correct)

    def posterior(self, prior: Sequence[float] | None = None) -> list[float]:
        """Probability of each change point 1 to n (index 0 is step 1); under another prior where one is given."""
        prior = prior or self.prior or [1.0] * self.steps
        scores = [log(prior[c - 1]) + self._score(c) if prior[c - 1] > 0 else -inf for c in range(1, self.steps + 1)]
        top = max(scores)
        weights = [exp(score - top) for score in scores]
        return [weight / sum(weights) for weight in weights]

    def _score(self, change: int) -> float:
        """Log probability of all rollouts if the trace died at step `change`."""
        score, revived, died = 0.0, 0, 0
        for start in self.right.keys() | self.wrong.keys():
            right, wrong = self.right.get(start, []), self.wrong.get(start, [])
            if start >= change:
                score += fit(self.dead(), len(right), len(wrong))
                continue
            late_right, late_wrong = (sum(last >= change for last in ends) for ends in (right, wrong))
            score += fit(self.alive(start), len(right) - late_right, len(wrong) + late_right)
            revived, died = revived + late_right, died + late_wrong
        return score + fit(self.dead(), revived, died)

    def gain(self, step: int, posterior: Sequence[float]) -> float:
        """Expected information, in nats, that one more rollout after `step` gives about the change point."""
        living = sum(posterior[step:])
        alive, dead = self._next(step, self.alive(step)), self._next(step, self.dead())
        mixed = living * alive + (1 - living) * dead
        return entropy(mixed) - living * entropy(alive) - (1 - living) * entropy(dead)

    def _next(self, step: int, beta: tuple[float, float]) -> float:
        """Predicted chance that the next rollout after a step ends right."""
        a, b = beta
        right, wrong = len(self.right.get(step, [])), len(self.wrong.get(step, []))
        return (a + right) / (a + b + right + wrong)


def fit(beta: tuple[float, float], right: int, wrong: int) -> float:
    """Log probability of a sequence of outcomes under a Beta-binomial."""
    a, b = beta
    return log_beta(a + right, b + wrong) - log_beta(a, b)
