"""Rollouts from prefixes of one problem's traces, each sampled once and judged once whoever asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from app.records import Problem, Trace, Verdict, digest, seed_from, trace_id
from app.sampling.engine import Engine, PromptTooLong, Request

# Verdicts of one problem's texts, in order, each with its finish reason; may block.
Judge = Callable[[Problem, list[str], list[str]], Awaitable[list[Verdict]]]
Prefix = tuple[int, ...]  # what the policy wrote before the rollout; token ids after the problem's prompt


@dataclass(frozen=True)
class Sampler:
    """How rollouts are drawn: the same for every problem of a stage."""

    engine: Engine
    policy: str  # fingerprint of the engine's weights
    judge: Judge
    decode: Callable[[list[int]], str]
    temperature: float
    max_tokens: int  # of one rollout
    seed: int = 0  # the recipe's


@dataclass
class _Node:
    """One prefix: its rollouts so far. The lock keeps two searches from drawing the same ones."""

    rollouts: list[tuple[Trace, Verdict]] = field(default_factory=list)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    unservable: bool = False


class ProblemRollouts:
    """All rollouts of one problem, by prefix. Traces that begin with the same tokens share them.

    A rollout's id and seed follow from problem, policy, prefix and its number there; its parent is the first of
    `traces` (in the order given) that begins with the prefix. So neither depends on which search asked first.
    """

    def __init__(self, problem: Problem, prompt_ids: Sequence[int], traces: Sequence[Trace], sampler: Sampler) -> None:
        self.problem, self.sampler = problem, sampler
        self.prompt_ids = tuple(prompt_ids)
        self.traces = traces
        self.engine_seconds = 0.0
        self._nodes: dict[Prefix, _Node] = {}
        # By text and finish reason: a sure policy writes the same solution again and again.
        self._verdicts: dict[tuple[str, str], Verdict] = {}

    async def take(self, prefix: Prefix, k: int) -> list[tuple[Trace, Verdict]]:
        """The first k rollouts from a prefix. None of a prefix that leaves the context no room: see `too_long`."""
        node = self._nodes.setdefault(prefix, _Node())
        async with node.lock:
            missing = range(len(node.rollouts), k)
            if missing and not node.unservable:
                try:
                    node.rollouts += await self._draw(prefix, missing)
                except PromptTooLong:
                    node.unservable = True
        return node.rollouts[:k]

    @property
    def too_long(self) -> int:
        """Prefixes that could not be rolled out because the context had no room."""
        return sum(node.unservable for node in self._nodes.values())

    def all(self) -> list[tuple[Trace, Verdict]]:
        """Every rollout there is, by prefix and number: an order that does not depend on time."""
        return [pair for _, node in sorted(self._nodes.items()) for pair in node.rollouts]

    async def _draw(self, prefix: Prefix, numbers: range) -> list[tuple[Trace, Verdict]]:
        sampler, prompt = self.sampler, (*self.prompt_ids, *prefix)
        purpose = "rollout-" + digest(prefix)
        requests = []
        for number in numbers:
            name = trace_id(self.problem.id, number, sampler.policy, purpose)
            requests.append(
                Request(
                    id=name,
                    prompt_token_ids=prompt,
                    seed=seed_from(sampler.seed, name),
                    max_tokens=sampler.max_tokens,
                    temperature=sampler.temperature,
                )
            )
        written = await sampler.engine.generate_n(requests)
        self.engine_seconds += sum(done.seconds for done in written)
        # As a whole: a decoder may treat the first token of what it is given differently.
        texts = [(sampler.decode([*prefix, *done.token_ids]), done.finish_reason) for done in written]
        unseen = list(dict.fromkeys(text for text in texts if text not in self._verdicts))
        if unseen:
            judged = await sampler.judge(self.problem, *map(list, zip(*unseen, strict=True)))
            self._verdicts.update(zip(unseen, judged, strict=True))
        parent = next((t.id for t in self.traces if tuple(t.token_ids[: len(prefix)]) == prefix), None)
        pairs = []
        for number, request, done, text in zip(numbers, requests, written, texts, strict=True):
            trace = Trace(
                id=request.id,
                problem_id=self.problem.id,
                sample=number,
                seed=request.seed,
                policy=sampler.policy,
                prompt_token_ids=list(prompt),
                token_ids=list(done.token_ids),
                text=done.text,
                finish_reason=done.finish_reason,
                prefix_tokens=len(prefix),
                parent=parent,
            )
            pairs.append((trace, replace(self._verdicts[text], trace_id=trace.id)))
        return pairs
