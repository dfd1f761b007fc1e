"""An engine that follows a script: for tests and for measuring everything but the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from app.records import seed_from
from app.sampling.engine import Completion, Engine, EngineDead, Request, check_fits
from app.sampling.meter import Meter

Script = Callable[[Request], Completion]
END = 2  # the end token of `digits`


def digits(request: Request) -> Completion:
    """Tokens and a final answer that follow from prompt and seed alone; the answer is 0 to 3."""
    number = seed_from(list(request.prompt_token_ids), request.seed)
    length = 4 + number % 13
    tokens = (*(10 + (number >> shift) % 90 for shift in range(length - 1)), END)
    return Completion(tokens, f"step\n#### {number % 4}", "stop")


class ScriptedEngine(Engine):
    """Answers `script(request)` after `latency(request)` seconds, at most `slots` at once.

    A completion longer than `max_tokens` is cut, as an engine would, with finish_reason length. Once `dies_after`
    requests have been served the engine is dead.
    """

    def __init__(
        self,
        script: Script = digits,
        latency: Callable[[Request], float] | None = None,
        slots: int | None = None,
        context_length: int = 4096,
        dies_after: int | None = None,
    ) -> None:
        self.script, self.latency, self.context_length, self.dies_after = script, latency, context_length, dies_after
        self.slots = asyncio.Semaphore(slots) if slots else None
        self.meter = Meter()
        self.requests: list[Request] = []
        self.aborted: list[str] = []  # ids, in order
        self.served = 0
        self.tokens = 0  # written, those of aborted requests included
        self.active = 0
        self.most_active = 0

    async def generate(self, request: Request) -> Completion:
        """Follow the script."""
        limit = check_fits(request, self.context_length)
        self.requests.append(request)
        with self.meter.request() as span:
            done = await self._queue(request, limit)
            self.meter.wrote(len(done.token_ids))
        return replace(done, seconds=span.seconds)

    async def _queue(self, request: Request, limit: int) -> Completion:
        if self.slots is None:
            return await self._serve(request, limit)
        try:
            await self.slots.acquire()
        except asyncio.CancelledError:
            self.aborted.append(request.id)
            raise
        try:
            return await self._serve(request, limit)
        finally:
            self.slots.release()

    async def _serve(self, request: Request, limit: int) -> Completion:
        if self.dies_after is not None and self.served >= self.dies_after:
            raise EngineDead("scripted death")
        done = self.script(request)
        if len(done.token_ids) > limit:
            done = replace(done, token_ids=done.token_ids[:limit], finish_reason="length")
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        loop = asyncio.get_running_loop()
        wait, begun = self.latency(request) if self.latency else 0.0, loop.time()
        try:
            if self.latency:
                await asyncio.sleep(wait)
        except asyncio.CancelledError:
            self.aborted.append(request.id)
            self.tokens += round(len(done.token_ids) * min(1.0, (loop.time() - begun) / wait)) if wait else 0
            raise
        finally:
            self.active -= 1
        self.served += 1
        self.tokens += len(done.token_ids)
        return done
