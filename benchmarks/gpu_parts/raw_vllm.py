"""vLLM's offline class as it comes, in a process of its own.

Light until it is asked: what the environment says of threads must be there before torch is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from app.sampling.engine import Request


def prepare(environment: dict[str, str]) -> None:
    """What vLLM and torch read when they are imported."""
    os.environ.update(environment)


def session(
    path: str, given: dict[str, Any], asked: Sequence[Request], warm: Sequence[Request], rounds: int
) -> tuple[float, list[float]]:
    """Seconds from nothing to the first answer, and tokens a second of each round.

    Args:
        path: the model's folder.
        given: arguments of LLM.
        asked: what a round asks; each request gets exactly its `max_tokens`.
        warm: what is asked before.
    """
    begun = time.perf_counter()
    from vllm import LLM, SamplingParams

    llm = LLM(path, **given)

    def answer(what: Sequence[Request]) -> float:
        prompts = [{"prompt_token_ids": list(one.prompt_token_ids)} for one in what]
        how = [SamplingParams(temperature=1, seed=one.seed, max_tokens=one.max_tokens, ignore_eos=True) for one in what]
        start = time.perf_counter()
        done = llm.generate(prompts, how, use_tqdm=False)
        return sum(len(one.outputs[0].token_ids) for one in done) / (time.perf_counter() - start)

    answer(warm[:1])
    start = time.perf_counter() - begun
    answer(warm)
    rates = []
    for _ in range(rounds):
        llm.reset_prefix_cache()
        rates.append(answer(asked))
    return start, rates
