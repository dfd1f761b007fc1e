"""What a program needs of an inference engine: any of vLLM, an HTTP endpoint or a script can be one."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from app.errors import UserError
from app.sampling.meter import Meter

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """One continuation to write. `seed` makes it the same request on any replica."""

    id: str
    prompt_token_ids: tuple[int, ...]
    seed: int
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    min_p: float = 0.0

    @property
    def cut(self) -> dict[str, float]:
        """top_k and min_p where they are asked for, by the names they have in vLLM and SGLang."""
        return ({"top_k": self.top_k} if self.top_k else {}) | ({"min_p": self.min_p} if self.min_p else {})


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back. `finish_reason` is stop (end token) or length (max_tokens or the context's end).

    `token_ids` are exactly what the engine emitted, the end token included where it was emitted; `text` leaves special
    tokens out. `seconds` is this request's share of the engine's time: shares of all requests add up to the time in
    which the engine had work (see `Meter`); 0 where nothing measured it.
    """

    token_ids: tuple[int, ...]
    text: str
    finish_reason: str
    seconds: float = field(default=0.0, compare=False)
    usage: tuple[int, int] = field(default=(0, 0), compare=False)  # tokens read and written, as an endpoint counts them


class Engine(ABC):
    """An asynchronous engine; `generate` may be awaited many times at once."""

    context_length: int  # largest number of tokens, prompt and continuation together
    meter: Meter  # every request passes through it

    @abstractmethod
    async def generate(self, request: Request) -> Completion:
        """Write one continuation. Cancelling the awaiting task aborts the request in the engine.

        Raises EngineDead when no further request can be served (the actor must be replaced), PromptTooLong when this
        one prompt cannot be served.
        """

    async def generate_n(self, requests: Sequence[Request]) -> list[Completion]:
        """Continuations in the order of the requests; the first failure aborts the others.

        They are separate requests on purpose: each has its own seed and can be aborted alone, and engines with a prefix
        cache compute a shared prompt once all the same.
        """
        return await all_or_none(self.generate(request) for request in requests)

    async def load_weights(self, path: str) -> None:
        """Serve another checkpoint of the same architecture from now on. No request may be under way.

        Raises UserError where the engine cannot: evaluation beside training needs it.
        """
        raise UserError(f"{type(self).__name__} cannot change its weights, which evaluation beside training needs")

    def serving(self, adapter: str | None) -> Engine:
        """The same engine, answering with another LoRA adapter (its folder) or with none. Raises UserError likewise."""
        raise UserError(f"{type(self).__name__} serves no adapters; train with lora.merge")

    async def close(self) -> None:  # noqa: B027 - most engines hold nothing
        """Free what the engine holds. No request may be under way."""


class EngineDead(RuntimeError):
    """The engine behind this object is gone: the process around it must end, so that a new one takes its work."""

    restart_actor = True  # app.shardmap reads this: it knows nothing of engines


class PromptTooLong(ValueError):
    """Prompt plus at least one token does not fit the context."""


def check_fits(request: Request, context_length: int) -> int:
    """Tokens this request may write: `max_tokens` or what the context leaves; PromptTooLong where that is none."""
    room = context_length - len(request.prompt_token_ids)
    if room < 1:
        raise PromptTooLong(
            f"request {request.id}: a prompt of {len(request.prompt_token_ids)} tokens leaves no room in a context of "
            f"{context_length}"
        )
    return min(request.max_tokens, room)


async def fitting(work: Iterable[Coroutine[Any, Any, list[T]]]) -> tuple[list[T], int]:
    """What each problem's work gives, in order; and how many prompts were too long, whose work gives nothing."""

    async def one(problem: Coroutine[Any, Any, list[T]]) -> list[T] | None:
        try:
            return await problem
        except PromptTooLong:
            return None

    found = await all_or_none(one(problem) for problem in work)
    return [item for items in found if items is not None for item in items], found.count(None)


async def all_or_none(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """As asyncio.gather, but where one fails or this is cancelled, the others are cancelled and awaited."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
