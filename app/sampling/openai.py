"""Any OpenAI-compatible endpoint as an Engine: chat for writers, completions over token ids for traces."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAsyncHttpxClient, Omit, OpenAIError

from app.errors import UserError
from app.sampling.engine import Completion, Engine, PromptTooLong, Request, check_fits
from app.sampling.meter import Meter
from app.sampling.settings import Endpoint

RETRIES = 8  # of one request, by the client library: after 0.5, 1, 2, 4 and then 8 seconds, or as Retry-After says
UNKNOWN = 1 << 20  # context length, until the endpoint refuses a request and says its own
CONTEXT = re.compile(r"context[ _]length|(?:maximum|max) model length|context window", re.IGNORECASE)
LIMIT = re.compile(r"(?:context length|model length|context window)[^\d.]{0,40}(\d+)", re.IGNORECASE)
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
    Where the endpoint's context is smaller than `context_length`, the first refusal tells; from then on requests are
    cut to it, so that the same texts come as where the context was known from the start.

    Raises, from every request:
        UserError: 401, 403, 404 or another refusal; repeated failure; the budget is spent.
        PromptTooLong: the prompt leaves no room in the endpoint's context.
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
        http_client: DefaultAsyncHttpxClient | None = None,
    ) -> None:
        self.url, self.model, self.api_key_env = base_url.rstrip("/"), model, api_key_env
        self.context_length, self.budget = context_length, budget or Budget()
        self.meter = Meter()
        self._key = os.environ.get(api_key_env, "")
        self._slots = asyncio.Semaphore(concurrency)
        self._headers = {} if self._key else {"Authorization": Omit()}
        self._client = AsyncOpenAI(
            api_key=self._key or "none",
            base_url=self.url,
            timeout=timeout,
            max_retries=RETRIES,
            http_client=http_client,
        )

    async def generate(self, request: Request) -> Completion:
        """One continuation of a token-id prompt. Needs an endpoint that returns token ids, as `vllm serve` does."""
        body = {
            "prompt": list(request.prompt_token_ids),
            "max_tokens": check_fits(request, self.context_length),
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
            "extra_body": {"return_token_ids": True, **request.cut},
        }
        try:
            answer, seconds = await self._post(self._client.completions, body)
        except PromptTooLong as refused:
            await self._learn_context(refused)
            body["max_tokens"] = check_fits(request, self.context_length)
            answer, seconds = await self._post(self._client.completions, body)
        choice = answer["choices"][0]
        if choice.get("token_ids") is None:
            raise UserError(f"{self.url}: returns no token ids, which traces need; use an endpoint of `vllm serve`")
        self.meter.wrote(len(choice["token_ids"]))
        return Completion(tuple(choice["token_ids"]), choice["text"], self._reason(choice), seconds)

    async def chat(
        self,
        messages: Sequence[Message],
        seed: int,
        max_tokens: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        template_arguments: dict[str, Any] | None = None,
    ) -> Completion:
        """The answer to a conversation, as text: its `token_ids` are empty.

        `template_arguments` go to the chat template where the endpoint is one of vLLM or SGLang; none: nothing is sent.
        """
        more = {"extra_body": {"chat_template_kwargs": template_arguments}} if template_arguments else {}
        answer, seconds = await self._post(
            self._client.chat.completions,
            {
                "messages": list(messages),
                "max_tokens": max_tokens,
                "temperature": temperature,
                "top_p": top_p,
                "seed": seed,
                **more,
            },
        )
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        used = (usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0)
        return Completion((), choice["message"].get("content") or "", self._reason(choice), seconds, used)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _reason(self, choice: dict[str, Any]) -> str:
        reason = choice.get("finish_reason")
        if reason not in ("stop", "length"):
            raise UserError(f"{self.url}: finished a request with {reason!r}, where stop or length was expected")
        return reason

    async def _post(self, api: Any, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
        """The answer, and this request's share of the time in which the endpoint had work from here."""
        async with self._slots:
            self.budget.check()
            with self.meter.request() as span:
                answer = self._read(await self._ask(api, body))
        return answer, span.seconds

    async def _ask(self, api: Any, body: dict[str, Any]) -> Any:
        """The answer as the endpoint wrote it; the library repeats what fails in passing."""
        try:
            raw = await api.with_raw_response.create(model=self.model, extra_headers=self._headers, **body)
            return raw.http_response.json()
        except APIStatusError as error:
            raise self._refusal(error.status_code, self._hide(error.response.text)[:500]) from None
        except APIConnectionError as error:
            problem = f"{type(error.__cause__ or error).__name__}: {error.__cause__ or error}"
            raise UserError(f"{self.url}: failed {1 + RETRIES} times, the last time with {problem}") from None
        except ValueError:
            raise self._strange(raw.text) from None

    def _read(self, answer: Any) -> dict[str, Any]:
        if not isinstance(answer, dict) or not isinstance(answer.get("choices"), list):
            raise self._strange(str(answer))
        usage = answer.get("usage") or {}
        self.budget.read += usage.get("prompt_tokens") or 0
        self.budget.written += usage.get("completion_tokens") or 0
        if not answer["choices"]:
            raise UserError(f"{self.url}: answered without a choice")
        return answer

    def _refusal(self, status: int, text: str) -> Exception:
        """The exception that fits a failed response."""
        if status in (401, 403):
            state = "was refused" if self._key else "is not set"
            return UserError(f"{self.url}: {status}: the key in the environment variable {self.api_key_env} {state}")
        if status == 404:
            return UserError(f"{self.url}: 404: no model {self.model!r} or no such address (it ends in /v1?): {text}")
        if status == 400 and CONTEXT.search(text):
            return PromptTooLong(text)
        if status in (408, 409, 429) or status >= 500:
            return UserError(f"{self.url}: failed and was repeated in vain, the last time with {status} {text}")
        return UserError(f"{self.url}: {status}: {text}")

    async def _learn_context(self, refused: PromptTooLong) -> None:
        """Take the endpoint's context length from its refusal, else from its list of models (`max_model_len`).

        Raises UserError where neither says a length that is below the one that was asked for.
        """
        said = LIMIT.search(str(refused))
        length = int(said[1]) if said else await self._listed_context()
        if length is None or length > self.context_length:
            told = "set placement.sampling.max_model_len to its context length"
            raise UserError(f"{self.url}: refuses a prompt and does not say how long it may be; {told}: {refused}")
        self.context_length = length

    async def _listed_context(self) -> int | None:
        try:
            raw = await self._client.models.with_raw_response.list(extra_headers=self._headers)
            listed = raw.http_response.json()
        except (OpenAIError, ValueError):  # an endpoint need not list its models
            return None
        models = listed.get("data") if isinstance(listed, dict) else None
        lengths = [m.get("max_model_len") for m in models or [] if isinstance(m, dict) and m.get("id") == self.model]
        return lengths[0] if lengths else None

    def _strange(self, text: str) -> UserError:
        return UserError(f"{self.url}: answers, but not as an OpenAI endpoint does: {self._hide(text)[:200]!r}")

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
