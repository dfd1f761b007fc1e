"""What sampling will take, from a pilot of a few problems: tokens, accepted traces, engine time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev


@dataclass(frozen=True)
class Pilot:
    """A few problems sampled as the stage would sample them.

    `tokens` holds, problem by problem, the tokens of the traces kept. What quotas waste is in `engine_seconds` alone.
    """

    tokens: Sequence[int]
    traces: int
    accepted: int  # judged correct
    engine_seconds: float

    @property
    def tokens_each(self) -> float | None:
        """Tokens for each accepted trace; None where none was."""
        return sum(self.tokens) / self.accepted if self.accepted else None


@dataclass(frozen=True)
class Estimate:
    """A whole stage. `low` and `high` bound `tokens` by two standard errors over the pilot's problems."""

    problems: int
    traces: float
    accepted: float
    tokens: float
    low: float
    high: float
    seconds: float  # of one engine, as busy as the pilot kept it; several share it


def estimate(pilot: Pilot, problems: int) -> Estimate:
    """Scale a pilot up to `problems` problems of the same kind.

    With one pilot problem there is no spread to tell from: the bounds are 0 and infinity.
    """
    count = len(pilot.tokens)
    scale = problems / count
    each = mean(pilot.tokens)
    error = 2 * stdev(pilot.tokens) / count**0.5 if count > 1 else float("inf")
    return Estimate(
        problems=problems,
        traces=pilot.traces * scale,
        accepted=pilot.accepted * scale,
        tokens=each * problems,
        low=max(0.0, each - error) * problems,
        high=(each + error) * problems,
        seconds=pilot.engine_seconds * scale,
    )


def spread(count: int, of: int) -> list[int]:
    """Places of `count` problems, or all there are, evenly over a split of `of`."""
    count = min(count, of)
    return [(2 * n + 1) * of // (2 * count) for n in range(count)]
