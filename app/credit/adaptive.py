"""Adaptive search: rollouts go where they tell most a token about the first pit, until that is sure enough.

All traces of a problem are searched in rounds. Between rounds every trace learns from everything sampled of the problem
so far: a plain sample, or a rollout of another prefix or trace, that repeats a trace's first j steps token by token is
a rollout after step j. (Given that it came by there, how it goes on is the policy's draw from there.) So the result
depends on the problem alone, not on the time at which answers come back.

A round draws one rollout for a trace at first, and more the longer its search lasts: most searches are short, and the
few long ones would otherwise be what an engine waits for in the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from app.credit.changepoint import Change
from app.credit.search import Finding
from app.credit.values import FAILED, Estimate, counts
from app.judged import Judged
from app.records import Trace
from app.tokens import common

Take = Callable[[tuple[int, ...], int], Awaitable[list[Judged]]]  # the first k rollouts from a prefix
PIT = 0.5  # a change point at least this probable is called the first pit, also where the budget ends early
PATIENCE = 4  # rollouts after which a search draws one more at a time
NEAR_BEST = 0.5  # a step is rolled out beside the best one if it tells at least this share of it a token


@dataclass(frozen=True, slots=True)
class Until:
    """When a search is over.

    Args:
        confidence: probability of one step at which it may stop.
        continuations: right rollouts known from before the pit without which it does not stop; they are what a pair
            needs, and a test of the pit.
        rollouts: most drawn for a trace, times its number of steps but the last.
    """

    confidence: float
    continuations: int
    rollouts: int


@dataclass
class Trail:
    """One wrong trace under search.

    Args:
        name: its id.
        tokens: what the policy wrote.
        bounds: where steps end in it: 0, the end of step 1, ..., the end of the last step.
        change: the belief over its pit.
    """

    name: str
    tokens: tuple[int, ...]
    bounds: list[int]
    change: Change
    passed: list[Estimate] = field(init=False)  # rollouts that came by each bound but the last
    spent: int = 0  # rollouts drawn for this trace
    closed: set[int] = field(default_factory=set)  # steps that cannot be rolled out

    def __post_init__(self) -> None:
        self.passed = [Estimate() for _ in self.bounds[:-1]]
        self.drawn = [0] * self.steps  # rollouts asked for after each step

    @property
    def steps(self) -> int:
        return len(self.bounds) - 1

    def learn(self, name: str, start: int, tokens: Sequence[int], correct: bool) -> None:
        """What a solution tells: it was drawn from its token `start` on, and ended right or not.

        Of itself a trace tells only the problem's value: it is looked at because it went wrong.
        """
        shared = common(self.tokens, tokens) if name != self.name else 0
        seen = Estimate(int(correct), 1)
        by = [step for step, bound in enumerate(self.bounds[:-1]) if start <= bound <= shared]
        for step in by:
            self.passed[step] += seen
        if by:
            self.change.add(by[0], by[-1], correct)

    def wanted(self, until: Until) -> dict[int, int]:
        """How many rollouts to draw now, by step; none where the search is over."""
        left = until.rollouts * (self.steps - 1) - self.spent
        if left <= 0:
            return {}
        posterior = self.change.posterior()
        best = max(range(self.steps), key=lambda i: posterior[i])
        count = min(left, 1 + self.spent // PATIENCE)
        if posterior[best] < until.confidence:
            return self._telling(posterior, count)
        missing = until.continuations - self.passed[best].correct
        room = until.rollouts - self.drawn[best]
        if missing <= 0 or room <= 0 or best == 0 or best in self.closed:
            return {}
        return {best: min(count, missing, room)}  # step number `best` is the one before the pit

    def _telling(self, posterior: Sequence[float], count: int) -> dict[int, int]:
        """`count` rollouts, spread over the steps after which they tell most a token about the change point."""
        gains = {
            step: self.change.gain(step, posterior) / (self.left(step) + 1)
            for step in range(1, self.steps)
            if step not in self.closed
        }
        order = sorted(gains, key=lambda step: -gains[step])[:count]
        near = [step for step in order if gains[step] >= NEAR_BEST * gains[order[0]]]
        return {step: count // len(near) + (i < count % len(near)) for i, step in enumerate(near)}

    def left(self, step: int) -> int:
        """Tokens of the trace after a step: about what a rollout from there will cost."""
        return self.bounds[-1] - self.bounds[step]

    def finding(self) -> Finding:
        posterior = self.change.posterior()
        values = {step: value for step, value in enumerate(self.passed) if value.judged}
        values[self.steps] = FAILED
        alone = self.change.posterior([1.0] * self.steps)
        return Finding(values, named(posterior), tuple(posterior), named(alone))


def named(posterior: Sequence[float]) -> int | None:
    """The likeliest step (from 1), if it is likelier than not."""
    best = max(range(len(posterior)), key=lambda i: posterior[i])
    return best + 1 if posterior[best] >= PIT else None


async def adaptive(trails: Sequence[Trail], known: Iterable[Judged], take: Take, until: Until) -> list[Finding]:
    """Search the wrong traces of one problem.

    Args:
        trails: the traces.
        known: samples there are already, drawn as rollouts are, the trails' own traces among them.
        take: the callback above; asking again is free.
        until: when a trace's search is over.

    Returns:
        A finding a trail; its values count every rollout that came by a prefix.
    """
    told: set[str] = set()
    _tell(trails, known, told)
    taken: dict[tuple[int, ...], int] = {}
    while True:
        wanted: dict[tuple[int, ...], list[tuple[Trail, int, int]]] = {}
        for trail in trails:
            for step, count in trail.wanted(until).items():
                wanted.setdefault(trail.tokens[: trail.bounds[step]], []).append((trail, step, count))
        if not wanted:
            return [trail.finding() for trail in trails]
        more = {prefix: max(count for _, _, count in asked) for prefix, asked in wanted.items()}
        drawn = await asyncio.gather(*(take(prefix, taken.get(prefix, 0) + more[prefix]) for prefix in wanted))
        for (prefix, asked), rollouts in zip(wanted.items(), drawn, strict=True):
            fresh = len(rollouts) - taken.get(prefix, 0)
            taken[prefix] = len(rollouts)
            for trail, step, _ in asked:
                trail.spent += fresh
                trail.drawn[step] += fresh
                if not fresh:
                    trail.closed.add(step)
            _tell(trails, rollouts, told)


def _tell(trails: Sequence[Trail], rollouts: Iterable[Judged], told: set[str]) -> None:
    """Let every trail learn from each rollout that says anything, once."""
    for trace, verdict in rollouts:
        if trace.id in told or not counts(trace, verdict):
            continue
        told.add(trace.id)
        whole = _solution(trace)
        for trail in trails:
            trail.learn(trace.id, trace.prefix_tokens, whole, verdict.correct)


def _solution(trace: Trace) -> list[int]:
    """All tokens after the problem's own prompt."""
    if not trace.prefix_tokens:
        return trace.token_ids
    return trace.prompt_token_ids[-trace.prefix_tokens :] + trace.token_ids
