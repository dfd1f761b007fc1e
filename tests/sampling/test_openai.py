"""The endpoint client against a transport that plays the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from time import time

import anyio
import httpx2
import pytest
from openai import DefaultAsyncHttpxClient

from app.errors import UserError
from app.sampling.engine import PromptTooLong, Request
from app.sampling.openai import Budget, OpenAIEngine, endpoint_engine
from app.sampling.settings import Endpoint, EnginePlacement

REQUEST = Request("r", (1, 2, 3), seed=7, max_tokens=5, temperature=0.5)
ANSWER = {
    "choices": [{"text": "4", "token_ids": [9, 2], "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}
CHAT = {"choices": [{"message": {"content": "Problem: ..."}, "finish_reason": "length"}]}


def engine(handler: Callable[[httpx2.Request], httpx2.Response], **options: object) -> OpenAIEngine:
    client = DefaultAsyncHttpxClient(transport=httpx2.MockTransport(handler))
    return OpenAIEngine("http://server/v1/", "m", http_client=client, **options)  # type: ignore[arg-type]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds the client meant to wait; it does not."""
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(anyio, "sleep", sleep)
    return found


def test_completion_sends_token_ids_and_returns_them() -> None:
    seen = []

    def serve(request: httpx2.Request) -> httpx2.Response:
        seen.append((str(request.url), json.loads(request.content)))
        return httpx2.Response(200, json=ANSWER)

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
    }


def test_a_cut_of_the_next_tokens_is_asked_for_where_there_is_one() -> None:
    seen = []

    def serve(request: httpx2.Request) -> httpx2.Response:
        seen.append(json.loads(request.content))
        return httpx2.Response(200, json=ANSWER)

    asyncio.run(engine(serve).generate(replace(REQUEST, top_k=20, min_p=0.05)))
    assert (seen[0]["top_k"], seen[0]["min_p"], seen[0]["return_token_ids"]) == (20, 0.05, True)


def test_chat_answers_with_text() -> None:
    seen = []

    def serve(request: httpx2.Request) -> httpx2.Response:
        seen.append(json.loads(request.content))
        return httpx2.Response(200, json=CHAT)

    done = asyncio.run(engine(serve).chat([{"role": "user", "content": "hi"}], seed=1, max_tokens=8))
    assert (done.token_ids, done.text, done.finish_reason) == ((), "Problem: ...", "length")
    assert seen[0]["messages"] == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("first", [429, 500, 503, "lost"])
def test_passing_failures_are_repeated(first: int | str, waits: list[float]) -> None:
    served = 0

    def serve(request: httpx2.Request) -> httpx2.Response:
        nonlocal served
        served += 1
        if served > 2:
            return httpx2.Response(200, json=ANSWER)
        if first == "lost":
            raise httpx2.ConnectError("refused")
        return httpx2.Response(int(first), text="busy")

    assert asyncio.run(engine(serve).generate(REQUEST)).text == "4"
    assert served == 3
    assert 0 < waits[0] <= 0.5 < waits[1] <= 1


def test_retry_after_is_obeyed(waits: list[float]) -> None:
    answers = [httpx2.Response(429, headers={"retry-after": "17"}), httpx2.Response(200, json=ANSWER)]
    asyncio.run(engine(lambda _: answers.pop(0)).generate(REQUEST))
    assert waits == [17.0]


def test_a_retry_after_may_be_a_date(waits: list[float]) -> None:
    answers = [
        httpx2.Response(429, headers={"retry-after": formatdate(time() + 30, usegmt=True)}),
        httpx2.Response(200, json=ANSWER),
    ]
    asyncio.run(engine(lambda _: answers.pop(0)).generate(REQUEST))
    assert 28 < waits[0] <= 30


def test_a_failure_that_stays_ends_in_one_error(waits: list[float]) -> None:
    with pytest.raises(UserError, match=r"http://server/v1: failed and was repeated in vain, .*503 overloaded"):
        asyncio.run(engine(lambda _: httpx2.Response(503, text="overloaded")).generate(REQUEST))
    assert len(waits) == 8


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
        asyncio.run(engine(lambda _: httpx2.Response(status, text=body), api_key_env="MY_KEY").generate(REQUEST))
    assert waits == []


def test_a_missing_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(UserError, match="environment variable MY_KEY is not set"):
        asyncio.run(engine(lambda _: httpx2.Response(401), api_key_env="MY_KEY").generate(REQUEST))


def test_the_key_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret-123")
    seen = []

    def serve(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.headers["authorization"])
        return httpx2.Response(418, text="you sent secret-123")

    with pytest.raises(UserError) as raised:
        asyncio.run(engine(serve, api_key_env="MY_KEY").generate(REQUEST))
    assert seen == ["Bearer secret-123"]
    assert "secret-123" not in str(raised.value)


def test_a_lost_connection_that_stays_ends_in_one_error(waits: list[float]) -> None:
    def serve(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    with pytest.raises(UserError, match=r"failed 9 times, the last time with ConnectError: refused"):
        asyncio.run(engine(serve).generate(REQUEST))


def test_without_a_key_no_authorization_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    seen = []

    def serve(request: httpx2.Request) -> httpx2.Response:
        seen.append("authorization" in request.headers)
        return httpx2.Response(200, json=ANSWER)

    asyncio.run(engine(serve, api_key_env="MY_KEY").generate(REQUEST))
    assert seen == [False]


@dataclass
class Small:
    """A server that refuses what its context of 8 tokens cannot hold, and may say so in several ways."""

    says: str = "This model's maximum context length is 8 tokens. However, you requested more."
    lists: bool = False
    asked: list[tuple[int, int]] = field(default_factory=list)  # prompt and max_tokens of each request

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/models"):
            listed = {"data": [{"id": "other", "max_model_len": 3}, {"id": "m", "max_model_len": 8}]}
            return httpx2.Response(200, json=listed) if self.lists else httpx2.Response(404)
        body = json.loads(request.content)
        self.asked.append((len(body["prompt"]), body["max_tokens"]))
        if sum(self.asked[-1]) > 8:
            return httpx2.Response(400, text=self.says)
        return httpx2.Response(200, json=ANSWER)


MUTE = "too many tokens for this context length"


@pytest.mark.parametrize(
    "server",
    [
        Small(),
        Small("The decoder prompt (length 9) is longer than the maximum model length of 8."),
        Small("the model's context length is only 8 tokens"),
        Small(MUTE, lists=True),
    ],
)
def test_a_request_is_cut_to_the_context_that_a_refusal_tells(server: Small) -> None:
    async def run() -> None:
        client = engine(server)
        assert (await client.generate(Request("a", (1, 2, 3), 7, 50))).text == "4"
        assert client.context_length == 8
        assert (await client.generate(Request("b", (1, 2, 3, 4), 7, 50))).text == "4"
        with pytest.raises(PromptTooLong, match="c: a prompt of 8 tokens leaves no room in a context of 8"):
            await client.generate(Request("c", (1,) * 8, 7, 50))

    asyncio.run(run())
    assert server.asked == [(3, 50), (3, 5), (4, 4)]


def test_a_refusal_that_tells_no_length_says_what_to_set() -> None:
    with pytest.raises(UserError, match="does not say how long it may be; set placement.sampling.max_model_len"):
        asyncio.run(engine(Small(MUTE)).generate(Request("a", (1, 2, 3), 7, 50)))


def test_a_conversation_that_is_too_long_is_told_apart() -> None:
    text = "This model's maximum context length is 4096 tokens"
    with pytest.raises(PromptTooLong, match="4096"):
        asyncio.run(engine(lambda _: httpx2.Response(400, text=text)).chat([], 1, 8))


def test_an_endpoint_without_token_ids_cannot_serve_traces() -> None:
    answer = {"choices": [{"text": "4", "finish_reason": "stop"}]}
    with pytest.raises(UserError, match="returns no token ids"):
        asyncio.run(engine(lambda _: httpx2.Response(200, json=answer)).generate(REQUEST))


def test_an_answer_of_another_shape_is_an_error() -> None:
    with pytest.raises(UserError, match="not as an OpenAI endpoint does"):
        asyncio.run(engine(lambda _: httpx2.Response(200, text="<html>")).generate(REQUEST))


def test_concurrency_is_bounded() -> None:
    active, most = 0, 0

    async def serve(request: httpx2.Request) -> httpx2.Response:
        nonlocal active, most
        active += 1
        most = max(most, active)
        for _ in range(5):
            await asyncio.sleep(0)
        active -= 1
        return httpx2.Response(200, json=ANSWER)

    async def run() -> None:
        client = engine(serve, concurrency=3)
        assert len(await client.generate_n([REQUEST] * 20)) == 20

    asyncio.run(run())
    assert most == 3


def test_the_token_budget_ends_the_job() -> None:
    budget = Budget(tokens=9)

    async def run() -> None:
        client = engine(lambda _: httpx2.Response(200, json=ANSWER), budget=budget, concurrency=1)
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
    client = engine(lambda _: httpx2.Response(200, json=ANSWER), concurrency=2)

    async def many() -> float:
        return sum(done.seconds for done in await client.generate_n([REQUEST] * 5))

    assert asyncio.run(many()) == pytest.approx(client.meter.busy)
    assert sum(window.tokens for _, window in client.meter.take_windows()) == 10
