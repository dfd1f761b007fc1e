"""What a program needs of an inference engine, and nothing else: any of vLLM, an HTTP endpoint or a script can be one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Request:
    """One continuation to write. `seed` makes it the same request on any replica."""

    id: str
    prompt_token_ids: tuple[int, ...]
    seed: int
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back. `finish_reason` is stop (end token or stop text), length, or abort.

    `token_ids` are exactly what the engine emitted, the end token included where it was emitted; `text` leaves special
    tokens out. `logprob` is the sum over tokens in nats, where the engine gives it.
    """

    token_ids: tuple[int, ...]
    text: str
    finish_reason: str
    logprob: float | None = None


class Engine(Protocol):
    """An asynchronous engine; `generate` may be awaited many times at once."""

    async def generate(self, request: Request) -> Completion:
        """Write one continuation. Cancelling the awaiting task aborts the request in the engine.

        Raises EngineDead when no further request can be served (the actor must be replaced), PromptTooLong when this one
        prompt cannot be served.
        """
        ...

    async def generate_n(self, requests: Sequence[Request]) -> list[Completion]:
        """Continuations of one prompt, same order as the requests: engines may share the prompt's work."""
        ...

    @property
    def context_length(self) -> int:
        """Largest number of tokens, prompt and continuation together."""
        ...


class EngineDead(RuntimeError):
    """The engine behind this object is gone."""


class PromptTooLong(ValueError):
    """Prompt plus at least one token does not fit the context."""
