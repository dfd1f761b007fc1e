"""A policy whose step values are known: after s steps a rollout ends right with chance q[s].

Tokens are characters, the end token is 0, a step is a line.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from app.credit.rollouts import Sampler
from app.records import Problem, Trace, Verdict
from app.sampling.engine import Completion, Engine, Request, check_fits

END = 0
PROMPT = "Q?"
PROBLEM = Problem(id="p-1", statement="Q", answer="1", split="train", source="test")


def ids(text: str, end: bool = True) -> list[int]:
    return [ord(c) for c in text] + [END] * end


def decode(tokens: list[int]) -> str:
    return "".join(chr(t) for t in tokens if t != END)


class Bernoulli(Engine):
    """`requests` records what it was asked."""

    def __init__(self, q: Sequence[float], context: int = 10_000, finish: str = "stop") -> None:
        self.q, self.context_length, self.finish = q, context, finish
        self.requests: list[Request] = []
        self.running = self.most_running = 0

    async def generate(self, request: Request) -> Completion:
        self.requests.append(request)
        check_fits(request, self.context_length)
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        await asyncio.sleep(0)
        self.running -= 1
        done = decode(list(request.prompt_token_ids))[len(PROMPT) :].count("\n")
        right = random.Random(request.seed).random() < self.q[done]
        text = f"#### {1 if right else 0}"
        return Completion(tuple(ids(text)), text, self.finish)


def judge(problem: Problem, texts: list[str], endings: list[str]) -> list[Verdict]:
    return [
        Verdict(
            "", "correct" if t.rstrip().endswith(f"#### {problem.answer}") else "incorrect", None, "test", "test", 0.0
        )
        for t in texts
    ]


def sampler(engine: Engine, seed: int = 0, judged_by=judge) -> Sampler:
    async def judged(problem: Problem, texts: list[str], endings: list[str]) -> list[Verdict]:
        return judged_by(problem, texts, endings)

    return Sampler(engine, "policy", judged, decode, temperature=1.0, max_tokens=50, seed=seed)


def trace(text: str, sample: int = 0, finish: str = "stop", end: bool = True) -> Trace:
    return Trace(
        id=f"t-{sample}",
        problem_id=PROBLEM.id,
        sample=sample,
        seed=sample,
        policy="policy",
        prompt_token_ids=ids(PROMPT, end=False),
        token_ids=ids(text, end),
        text=text,
        finish_reason=finish,
    )


def verdict(of: Trace, outcome: str) -> Verdict:
    return Verdict(of.id, outcome, None, "test", "test", 0.0)


def wrong(lines: int, sample: int = 0) -> tuple[Trace, Verdict]:
    """A finished wrong trace of `lines` steps, the last one its answer."""
    made = trace("".join(f"step {i} of {sample}\n" for i in range(1, lines)) + "#### 0", sample)
    return made, verdict(made, "incorrect")


def right(sample: int) -> tuple[Trace, Verdict]:
    made = trace(f"good {sample}\n#### 1", sample)
    return made, verdict(made, "correct")
