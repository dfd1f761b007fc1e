"""Any OpenAI-compatible endpoint as an Engine: chat for writers, completions over token ids for traces."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import httpx

from app.errors import UserError
from app.sampling.engine import Completion, Engine, PromptTooLong, Request, check_fits
from app.sampling.meter import Meter
from app.sampling.settings import Endpoint

ATTEMPTS = 6  # of one request, with waits of about 1, 2, 4, 8 and 16 seconds between them
LONGEST_WAIT = 60.0  # seconds; a Retry-After above it is obeyed all the same
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})  # the same request may succeed later
UNKNOWN = 1 << 20  # context length: the endpoint's own limit decides where this one is not reached
Message = dict[str, str]


@dataclass
class Budget:
    """What a job may spend on an endpoint, and what it has spent. Prices are in any currency per million tokens."""

    tokens: int | None = None
    cost: float | None = None
    input_price: float = 0.0
    output_price: float = 0.0
    read: int = 0
    written: int = 0

    @property
    def spent(self) -> float:
        """Cost so far."""
        return (self.read * self.input_price + self.written * self.output_price) / 1e6

    def check(self) -> None:
        """Raise UserError once a limit is reached."""
        if self.tokens is not None and self.read + self.written >= self.tokens:
            raise UserError(f"the endpoint's budget of {self.tokens:,} tokens is spent; finished shards are kept")
        if self.cost is not None and self.spent >= self.cost:
            raise UserError(f"the endpoint's budget of {self.cost:g} in money is spent; finished shards are kept")


class OpenAIEngine(Engine):
    """At most `concurrency` requests at once; those that fail in passing (429, 5xx, lost connections) are repeated.

    The key is read from the environment variable `api_key_env`, where there is one, and goes only into the header.

    Raises, from every request:
        UserError: 401, 403, 404 or another refusal; repeated failure; the budget is spent.
        PromptTooLong: the endpoint says that the prompt exceeds its context.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 16,
        context_length: int = UNKNOWN,
        budget: Budget | None = None,
        timeout: float = 600.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url, self.model, self.api_key_env = base_url.rstrip("/"), model, api_key_env
        self.context_length, self.budget = context_length, budget or Budget()
        self.meter = Meter()
        self._key = os.environ.get(api_key_env, "")
        self._slots = asyncio.Semaphore(concurrency)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx.Limits(max_connections=concurrency)
        self._client = httpx.AsyncClient(headers=headers, timeout=timeout, limits=limits, transport=transport)

    async def generate(self, request: Request) -> Completion:
        """One continuation of a token-id prompt. Needs an endpoint that returns token ids, as `vllm serve` does."""
        answer, seconds = await self._post(
            "completions",
            {
                "prompt": list(request.prompt_token_ids),
                "max_tokens": check_fits(request, self.context_length),
                "temperature": request.temperature,
                "top_p": request.top_p,
                "seed": request.seed,
                "return_token_ids": True,
                **({"stop": list(request.stop)} if request.stop else {}),
            },
        )
        choice = answer["choices"][0]
        if choice.get("token_ids") is None:
            raise UserError(f"{self.url}: returns no token ids, which traces need; use an endpoint of `vllm serve`")
        self.meter.wrote(len(choice["token_ids"]))
        return Completion(tuple(choice["token_ids"]), choice["text"], self._reason(choice), seconds)

    async def chat(
        self, messages: Sequence[Message], seed: int, max_tokens: int, temperature: float = 1.0, top_p: float = 1.0
    ) -> Completion:
        """The answer to a conversation, as text: its `token_ids` are empty."""
        answer, seconds = await self._post(
            "chat/completions",
            {
                "messages": list(messages),
                "max_tokens": max_tokens,
                "temperature": temperature,
                "top_p": top_p,
                "seed": seed,
            },
        )
        choice = answer["choices"][0]
        return Completion((), choice["message"].get("content") or "", self._reason(choice), seconds)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _reason(self, choice: dict[str, Any]) -> str:
        reason = choice.get("finish_reason")
        if reason not in ("stop", "length"):
            raise UserError(f"{self.url}: finished a request with {reason!r}, where stop or length was expected")
        return reason

    async def _post(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
        """The answer, and this request's share of the time in which the endpoint had work from here."""
        async with self._slots:
            with self.meter.request() as span:
                answer = await self._attempts(path, body)
        return answer, span.seconds

    async def _attempts(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        for attempt in range(1, ATTEMPTS + 1):
            self.budget.check()
            try:
                response = await self._client.post(f"{self.url}/{path}", json={"model": self.model, **body})
            except httpx.TransportError as error:
                problem, wait = f"{type(error).__name__}: {error}", backoff(attempt)
            else:
                if response.status_code == 200:
                    return self._read(response)
                problem = self._refusal(response)
                wait = retry_after(response.headers.get("retry-after")) or backoff(attempt)
            if attempt < ATTEMPTS:
                await asyncio.sleep(wait)
        raise UserError(f"{self.url}/{path}: failed {ATTEMPTS} times, the last time with {problem}")

    def _read(self, response: httpx.Response) -> dict[str, Any]:
        try:
            answer = response.json()
            usage = answer.get("usage") or {}
            choices = answer["choices"]
        except (ValueError, KeyError, AttributeError):
            text = self._hide(response.text)
            raise UserError(f"{self.url}: answers, but not as an OpenAI endpoint does: {text[:200]!r}") from None
        self.budget.read += usage.get("prompt_tokens") or 0
        self.budget.written += usage.get("completion_tokens") or 0
        if not choices:
            raise UserError(f"{self.url}: answered without a choice")
        return answer

    def _refusal(self, response: httpx.Response) -> str:
        """What a failed response says, where it may pass; else the exception that fits it."""
        status, text = response.status_code, self._hide(response.text)[:500]
        if status in PASSING:
            return f"{status} {text}"
        if status in (401, 403):
            state = "was refused" if self._key else "is not set"
            raise UserError(f"{self.url}: {status}: the key in the environment variable {self.api_key_env} {state}")
        if status == 404:
            raise UserError(f"{self.url}: 404: no model {self.model!r} or no such address (it ends in /v1?): {text}")
        if status == 400 and ("context length" in text or "context_length" in text):
            raise PromptTooLong(text)
        raise UserError(f"{self.url}: {status}: {text}")

    def _hide(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def endpoint_engine(endpoint: Endpoint, context_length: int | None) -> OpenAIEngine:
    """The engine that a recipe's `placement.sampling.endpoint` asks for.

    Args:
        context_length: tokens; None leaves it to the endpoint to refuse what does not fit.
    """
    return OpenAIEngine(
        endpoint.base_url,
        endpoint.model,
        endpoint.api_key_env,
        endpoint.concurrency,
        context_length or UNKNOWN,
        Budget(**endpoint.budget.model_dump()),
        endpoint.timeout,
    )


def backoff(attempt: int) -> float:
    """Seconds before the next attempt: doubled each time, with jitter so that clients do not return together."""
    return min(2.0 ** (attempt - 1), LONGEST_WAIT) * random.uniform(0.75, 1.25)


def retry_after(value: str | None) -> float | None:
    """A Retry-After header as seconds from now: a number or a date. None where absent or unreadable."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except ValueError:
        return None
