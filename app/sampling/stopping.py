"""Sample a problem until it has given enough correct and enough incorrect traces, or its budget is spent.

The rule is stated over sample numbers, not over arrival: the traces kept are samples 0..m, m the first number at which
the quotas are met. So the same traces are kept on one actor or eight, however requests overlap; and short traces,
which arrive first, are not favoured. Requests with a number above m are surplus: aborted, they leave no trace.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from app.records import Problem, Trace, Verdict
from app.sampling.engine import Completion, Engine, PromptTooLong, all_or_none
from app.sampling.requests import sample_request, trace_of
from app.sampling.settings import SamplingSettings, Stopping

Judge = Callable[[Problem, Trace], Awaitable[Verdict]]
Judged = tuple[Trace, Completion, Verdict]


@dataclass
class Tally:
    """Distinct correct and incorrect traces among the first samples of a problem, and what is still missing."""

    stopping: Stopping
    correct: set[tuple[int, ...]] = field(default_factory=set)
    incorrect: set[tuple[int, ...]] = field(default_factory=set)
    right: int = 0  # judged correct, repeated ones included
    judged: int = 0
    seen: int = 0
    quota: int = 0  # of correct traces; settled when the pilot is through

    def __post_init__(self) -> None:
        self.quota = self.stopping.correct

    def add(self, trace: Trace, verdict: Verdict) -> None:
        """Count the next sample. What was not judged fills no quota, and neither does a trace that was cut."""
        self.seen += 1
        if verdict.judged:
            self.judged += 1
            self.right += verdict.correct
            if trace.finish_reason == "stop":
                (self.correct if verdict.correct else self.incorrect).add(tuple(trace.token_ids))
        if self.stopping.budget == "proportional" and self.seen == self.stopping.pilot and self.judged:
            self.quota = max(1, round(self.stopping.correct * (1 - self.right / self.judged)))

    @property
    def missing_correct(self) -> int:
        return max(0, self.quota - len(self.correct))

    @property
    def missing_incorrect(self) -> int:
        return max(0, self.stopping.incorrect - len(self.incorrect))

    @property
    def fewest(self) -> int:
        """Samples that must still be drawn whatever they will be: asking for these at once wastes none."""
        pilot = self.stopping.pilot - self.seen if self.stopping.budget == "proportional" else 0
        return max(pilot, 0) or self.missing_correct + self.missing_incorrect

    @property
    def met(self) -> bool:
        return self.fewest == 0

    def wanted(self, ahead: float) -> int:
        """Samples to have under way: the fewest, or the share `ahead` of those still expected to be needed."""
        success = (self.right + 1) / (self.judged + 2)
        expected = max(self.missing_correct / success, self.missing_incorrect / (1 - success))
        return max(self.fewest, math.ceil(ahead * expected))


class Search:
    """One problem's samples so far. `run` may be called again with a higher limit.

    Args:
        judge: says whether a trace is right. It runs while others are being written and holds no place in the engine.
        ahead: see `Tally.wanted`; it changes how long a search takes and how much it aborts, never what it keeps.
    """

    def __init__(
        self,
        engine: Engine,
        problem: Problem,
        prompt_ids: Sequence[int],
        settings: SamplingSettings,
        seed: int,
        policy: str,
        judge: Judge,
        ahead: float = 0.5,
    ) -> None:
        assert settings.stopping
        self.engine, self.problem, self.prompt_ids = engine, problem, prompt_ids
        self.settings, self.seed, self.policy, self.judge, self.ahead = settings, seed, policy, judge, ahead
        self.tally = Tally(settings.stopping)
        self.kept: list[Judged] = []  # samples 0..m, in order
        self.too_long = False  # the prompt leaves the context no room: nothing is drawn
        self.surplus = 0  # requests asked for in vain: aborted, or finished above m
        self.surplus_seconds = 0.0  # engine time of those that finished
        self._ready: dict[int, Judged] = {}
        self._asked: dict[asyncio.Task[None], int] = {}

    async def run(self, limit: int) -> None:
        """Draw until the quotas are met or `limit` samples are there; none where the prompt is `too_long`.

        Raises EngineDead.
        """
        try:
            while not self.tally.met and len(self.kept) < limit:
                self._ask(min(limit, len(self.kept) + self.tally.wanted(self.ahead)))
                done, _ = await asyncio.wait(self._asked, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del self._asked[task]
                    task.result()
                self._count()
        except PromptTooLong:
            self.too_long = True
        finally:
            await self._abort()

    def _ask(self, limit: int) -> None:
        """Have every sample number below `limit` there or under way."""
        there = self._ready.keys() | set(self._asked.values())
        for number in range(len(self.kept), limit):
            if number not in there:
                self._asked[asyncio.ensure_future(self._draw(number))] = number

    async def _draw(self, number: int) -> None:
        request = sample_request(self.problem, self.prompt_ids, number, self.settings, self.seed, self.policy)
        done = await self.engine.generate(request)
        trace = trace_of(self.problem, number, self.policy, request, done)
        self._ready[number] = (trace, done, await self.judge(self.problem, trace))

    def _count(self) -> None:
        """Move samples into the tally in order of their number, as far as they are there without a gap."""
        while not self.tally.met and len(self.kept) in self._ready:
            trace, done, verdict = self._ready.pop(len(self.kept))
            self.kept.append((trace, done, verdict))
            self.tally.add(trace, verdict)

    async def _abort(self) -> None:
        self.surplus += len(self._asked) + len(self._ready)
        self.surplus_seconds += sum(done.seconds for _, done, _ in self._ready.values())
        for task in self._asked:
            task.cancel()
        await asyncio.gather(*self._asked, return_exceptions=True)
        self._asked.clear()
        self._ready.clear()


async def sample_to_quotas(searches: Sequence[Search], samples: int, most: int) -> None:
    """Run the searches of a shard, at most `samples` draws each; then let unmet ones share what the others left.

    An unmet search gets an equal part of the samples not drawn, up to `most` in all. The shard, not the actor, is the
    unit: what is drawn does not depend on where or beside what a shard runs.
    """
    await all_or_none(search.run(samples) for search in searches)
    able = [search for search in searches if not search.too_long]
    spare = sum(samples - len(search.kept) for search in able)
    unmet = [search for search in able if not search.tally.met]
    if unmet and most > samples and spare >= len(unmet):
        limit = min(most, samples + spare // len(unmet))
        await all_or_none(search.run(limit) for search in unmet)
