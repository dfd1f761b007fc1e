"""What is asked of the engine for one problem. Pure async code over the Engine protocol; no ray, no vllm."""

from __future__ import annotations

from collections.abc import Sequence

from app.records import Problem, Trace, seed_from, trace_id
from app.sampling.engine import Completion, Engine, Request
from app.sampling.settings import SamplingSettings


def sample_request(
    problem: Problem, prompt_ids: Sequence[int], sample: int, settings: SamplingSettings, seed: int, policy: str
) -> Request:
    """The request of a problem's sample number `sample`. Its id is the trace's; its seed follows from the id."""
    name = trace_id(problem.id, sample, policy)
    return Request(
        id=name,
        prompt_token_ids=tuple(prompt_ids),
        seed=seed_from(seed, name),
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        min_p=settings.min_p,
    )


def trace_of(problem: Problem, sample: int, policy: str, request: Request, done: Completion) -> Trace:
    """The record of a finished request."""
    return Trace(
        id=request.id,
        problem_id=problem.id,
        sample=sample,
        seed=request.seed,
        policy=policy,
        prompt_token_ids=list(request.prompt_token_ids),
        token_ids=list(done.token_ids),
        text=done.text,
        finish_reason=done.finish_reason,
    )


async def sample_n(
    engine: Engine,
    problem: Problem,
    prompt_ids: Sequence[int],
    settings: SamplingSettings,
    seed: int,
    policy: str,
    numbers: Sequence[int] | None = None,
) -> list[tuple[Trace, Completion]]:
    """Traces of one problem in order of their sample number, with what the engine said of each.

    Args:
        numbers: those to draw; None draws all `settings.samples`.

    Raises PromptTooLong where the context has no room for the prompt.
    """
    numbers = range(settings.samples) if numbers is None else numbers
    requests = [sample_request(problem, prompt_ids, n, settings, seed, policy) for n in numbers]
    done = await engine.generate_n(requests)
    return [(trace_of(problem, n, policy, r, d), d) for n, r, d in zip(numbers, requests, done, strict=True)]
