"""The endpoint client against a transport that plays the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from email.utils import formatdate
from time import time

import httpx
import pytest

from app.errors import UserError
from app.sampling import openai
from app.sampling.engine import PromptTooLong, Request
from app.sampling.openai import Budget, OpenAIEngine, endpoint_engine, retry_after
from app.sampling.settings import Endpoint, EnginePlacement

REQUEST = Request("r", (1, 2, 3), seed=7, max_tokens=5, temperature=0.5, stop=("\n",))
ANSWER = {
    "choices": [{"text": "4", "token_ids": [9, 2], "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}
CHAT = {"choices": [{"message": {"content": "Problem: ..."}, "finish_reason": "length"}]}


def engine(handler: Callable[[httpx.Request], httpx.Response], **options: object) -> OpenAIEngine:
    return OpenAIEngine("http://server/v1/", "m", transport=httpx.MockTransport(handler), **options)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds the client meant to wait; it does not."""
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(openai.asyncio, "sleep", sleep)
    return found


def test_completion_sends_token_ids_and_returns_them() -> None:
    seen = []

    def serve(request: httpx.Request) -> httpx.Response:
        seen.append((str(request.url), json.loads(request.content)))
        return httpx.Response(200, json=ANSWER)

    done = asyncio.run(engine(serve).generate(REQUEST))
    assert (done.token_ids, done.text, done.finish_reason) == ((9, 2), "4", "stop")
    [(url, body)] = seen
    assert url == "http://server/v1/completions"
    assert body == {
        "model": "m",
        "prompt": [1, 2, 3],
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 1.0,
        "seed": 7,
        "return_token_ids": True,
        "stop": ["\n"],
    }


def test_chat_answers_with_text() -> None:
    seen = []

    def serve(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        return httpx.Response(200, json=CHAT)

    done = asyncio.run(engine(serve).chat([{"role": "user", "content": "hi"}], seed=1, max_tokens=8))
    assert (done.token_ids, done.text, done.finish_reason) == ((), "Problem: ...", "length")
    assert seen[0]["messages"] == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("first", [429, 500, 503, "lost"])
def test_passing_failures_are_repeated(first: int | str, waits: list[float]) -> None:
    served = 0

    def serve(request: httpx.Request) -> httpx.Response:
        nonlocal served
        served += 1
        if served > 2:
            return httpx.Response(200, json=ANSWER)
        if first == "lost":
            raise httpx.ConnectError("refused")
        return httpx.Response(int(first), text="busy")

    assert asyncio.run(engine(serve).generate(REQUEST)).text == "4"
    assert served == 3
    assert 0.75 <= waits[0] <= 1.25 < 1.5 <= waits[1] <= 2.5


def test_retry_after_is_obeyed(waits: list[float]) -> None:
    answers = [httpx.Response(429, headers={"retry-after": "17"}), httpx.Response(200, json=ANSWER)]
    asyncio.run(engine(lambda _: answers.pop(0)).generate(REQUEST))
    assert waits == [17.0]


def test_retry_after_reads_numbers_and_dates() -> None:
    assert retry_after(None) is None
    assert retry_after("2.5") == 2.5
    assert retry_after("soon") is None
    assert 28 < (retry_after(formatdate(time() + 30, usegmt=True)) or 0) <= 30
    assert retry_after(formatdate(time() - 30, usegmt=True)) == 0


def test_a_failure_that_stays_ends_in_one_error(waits: list[float]) -> None:
    with pytest.raises(UserError, match=r"http://server/v1/completions: failed 6 times, .*503 overloaded"):
        asyncio.run(engine(lambda _: httpx.Response(503, text="overloaded")).generate(REQUEST))
    assert len(waits) == 5


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, "no", "environment variable MY_KEY was refused"),
        (404, "unknown model", "404: no model 'm'"),
        (422, "bad field", "422: bad field"),
    ],
)
def test_refusals_name_what_to_mend(
    status: int, body: str, message: str, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    monkeypatch.setenv("MY_KEY", "secret-123")
    with pytest.raises(UserError, match=message):
        asyncio.run(engine(lambda _: httpx.Response(status, text=body), api_key_env="MY_KEY").generate(REQUEST))
    assert waits == []


def test_a_missing_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(UserError, match="environment variable MY_KEY is not set"):
        asyncio.run(engine(lambda _: httpx.Response(401), api_key_env="MY_KEY").generate(REQUEST))


def test_the_key_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret-123")
    seen = []

    def serve(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(418, text="you sent secret-123")

    with pytest.raises(UserError) as raised:
        asyncio.run(engine(serve, api_key_env="MY_KEY").generate(REQUEST))
    assert seen == ["Bearer secret-123"]
    assert "secret-123" not in str(raised.value)


def test_context_errors_become_prompt_too_long() -> None:
    text = "This model's maximum context length is 4096 tokens"
    with pytest.raises(PromptTooLong):
        asyncio.run(engine(lambda _: httpx.Response(400, text=text)).generate(REQUEST))


def test_an_endpoint_without_token_ids_cannot_serve_traces() -> None:
    answer = {"choices": [{"text": "4", "finish_reason": "stop"}]}
    with pytest.raises(UserError, match="returns no token ids"):
        asyncio.run(engine(lambda _: httpx.Response(200, json=answer)).generate(REQUEST))


def test_an_answer_of_another_shape_is_an_error() -> None:
    with pytest.raises(UserError, match="not as an OpenAI endpoint does"):
        asyncio.run(engine(lambda _: httpx.Response(200, text="<html>")).generate(REQUEST))


def test_concurrency_is_bounded() -> None:
    active, most = 0, 0

    async def serve(request: httpx.Request) -> httpx.Response:
        nonlocal active, most
        active += 1
        most = max(most, active)
        for _ in range(5):
            await asyncio.sleep(0)
        active -= 1
        return httpx.Response(200, json=ANSWER)

    async def run() -> None:
        client = engine(serve, concurrency=3)
        assert len(await client.generate_n([REQUEST] * 20)) == 20

    asyncio.run(run())
    assert most == 3


def test_the_token_budget_ends_the_job() -> None:
    budget = Budget(tokens=9)

    async def run() -> None:
        client = engine(lambda _: httpx.Response(200, json=ANSWER), budget=budget, concurrency=1)
        for _ in range(2):
            await client.generate(REQUEST)
        with pytest.raises(UserError, match="budget of 9 tokens is spent"):
            await client.generate(REQUEST)

    asyncio.run(run())
    assert (budget.read, budget.written) == (6, 4)


def test_the_cost_budget_counts_both_prices() -> None:
    budget = Budget(cost=1.0, input_price=100_000, output_price=350_000, read=3, written=2)
    assert budget.spent == pytest.approx(1.0)
    with pytest.raises(UserError, match="budget of 1 in money is spent"):
        budget.check()


def test_a_recipes_endpoint_becomes_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "k-123")
    endpoint = Endpoint(
        base_url="http://server/v1",
        model="m",
        api_key_env="MY_KEY",
        budget={"tokens": 9, "cost": 2.5, "output_price": 3},  # type: ignore[arg-type]
    )
    found = endpoint_engine(endpoint, 512)
    assert (found.url, found.model, found.context_length) == ("http://server/v1", "m", 512)
    assert found.budget == Budget(tokens=9, cost=2.5, output_price=3)
    assert "k-123" not in endpoint.model_dump_json()


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ({"actors": 2}, "one actor asks it"),
        ({"max_actors": 3}, "one actor asks it"),
        ({"endpoint": {"base_url": "server", "model": "m"}}, "pattern"),
        ({"endpoint": {"base_url": "http://s", "model": "m", "budget": {"cost": 1}}}, "give input_price"),
    ],
)
def test_an_endpoint_that_cannot_work_is_refused_before_the_run(place: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        EnginePlacement.model_validate({"endpoint": {"base_url": "http://s/v1", "model": "m"}} | place)


def test_charges_of_requests_add_up_to_the_time_with_work() -> None:
    client = engine(lambda _: httpx.Response(200, json=ANSWER), concurrency=2)

    async def many() -> float:
        return sum(done.seconds for done in await client.generate_n([REQUEST] * 5))

    assert asyncio.run(many()) == pytest.approx(client.meter.busy)
    assert sum(window.tokens for _, window in client.meter.take_windows()) == 10
