"""One request to a writer, and what came back: its reasoning taken off, and told apart from an answer that was cut."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ask:
    """What a writer is asked. `seed` makes it the same request whoever sends it."""

    name: str
    text: str
    seed: int
    temperature: float
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What a writer answered. `read` and `written` are tokens, reasoning included; `text` is without it."""

    text: str
    cut: bool  # at max_tokens or the context's end
    read: int = 0
    written: int = 0


Answer = Callable[[Ask], Awaitable[Reply | None]]  # None: the text does not fit the writer's context


def without_reasoning(text: str) -> str:
    """A thinking model's answer. Empty where its reasoning never ended."""
    _, end, answer = text.rpartition("</think>")
    if end:
        return answer.strip()
    return "" if "<think>" in text else text.strip()


class Meter:
    """Asks through, and counts requests and tokens: one attempt's own bill."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests = self.read = self.written = 0

    async def ask(self, ask: Ask) -> Reply | None:
        self.requests += 1
        reply = await self.answer(ask)
        if reply is not None:
            self.read += reply.read
            self.written += reply.written
        return reply
