"""A model as judge: asked in both orders, because models favour the answer they see first; each question asked once."""

from __future__ import annotations

import asyncio
import os
import re
from time import perf_counter

from openai import AsyncOpenAI, OpenAIError

from app.errors import UserError
from app.records import Problem, Verdict, digest
from app.verification.settings import LlmJudge
from app.verification.verifier import Verifier

SHOWN = 2000  # characters of a trace's end that the model sees
RETRIES = 8  # of a request, by the client library
PROMPT = """Two answers to one problem are given. Decide whether their final answers are the same. Form, units that \
are implied and rounding that the problem asks for make no difference; any other value does. An answer without a final \
answer is different. Do not solve the problem.

Problem:
{statement}

First answer:
{first}

Second answer:
{second}

Reply with one word, SAME or DIFFERENT."""
WORD = re.compile(r"\b(SAME|DIFFERENT)\b")


class LlmVerifier:
    """Asks a model always, or where another verifier cannot read the trace or the reference.

    Two orders that disagree, or a reply that is neither word, give `error`: nothing is said of the trace. Raises
    UserError where the endpoint fails for good or the budget is spent; finished shards are kept.
    """

    def __init__(self, settings: LlmJudge, inner: Verifier) -> None:
        self.settings, self.inner = settings, inner
        self.spent = 0
        self._asked: dict[str, asyncio.Task[bool | None]] = {}
        self._client: AsyncOpenAI | None = None
        self._slots = asyncio.Semaphore(settings.concurrency)

    def fingerprint(self) -> str:
        asked = digest(self.settings.model, PROMPT, SHOWN, size=4)
        alone = self.settings.when == "always"
        return f"llm-{asked}" if alone else f"{self.inner.fingerprint()}+llm-{asked}"

    def equivalent(self, reference: str, answer: str) -> bool:
        """As the inner verifier: what counts votes for one answer among samples asks no model."""
        return self.inner.equivalent(reference, answer)

    async def judge(self, problem: Problem, text: str, finish_reason: str | None) -> Verdict:
        started = perf_counter()
        if self.settings.when == "unread":
            found = await self.inner.judge(problem, text, finish_reason)
            unread = found.outcome == "unparsed" or found.reason == "bad-reference"
            if not unread:
                return found
        same = await self._same(problem, text[-SHOWN:])
        seconds = perf_counter() - started
        if same is None:
            return Verdict("", "error", None, "judge-undecided", "llm", seconds)
        outcome = "correct" if same else "incorrect"
        return Verdict("", outcome, None, "judge-same" if same else "judge-different", "llm", seconds)

    async def _same(self, problem: Problem, text: str) -> bool | None:
        """What both orders agree on; None where they do not, or one reply says nothing."""
        key = digest(problem.statement, problem.answer, text)
        if key not in self._asked:
            self._asked[key] = asyncio.ensure_future(self._both(problem, text))
        try:
            return await self._asked[key]
        except BaseException:
            self._asked.pop(key, None)  # a later trace asks again
            raise

    async def _both(self, problem: Problem, text: str) -> bool | None:
        one, other = await asyncio.gather(
            self._ask(problem.statement, problem.answer, text), self._ask(problem.statement, text, problem.answer)
        )
        return one if one == other else None

    async def _ask(self, statement: str, first: str, second: str) -> bool | None:
        settings = self.settings
        prompt = PROMPT.format(statement=statement, first=first, second=second)
        async with self._slots:
            if settings.tokens is not None and self.spent >= settings.tokens:
                raise UserError(f"verification.llm.tokens: the budget of {settings.tokens:,} tokens is spent")
            try:
                reply = await self._endpoint().chat.completions.create(
                    model=settings.model,
                    messages=[{"role": "user", "content": prompt}],
                    temperature=0,
                    max_tokens=16,
                )
            except OpenAIError as error:
                raise UserError(f"verification.llm: {settings.base_url}, model {settings.model}: {error}") from error
        self.spent += reply.usage.total_tokens if reply.usage else 0
        said = set(WORD.findall((reply.choices[0].message.content or "").upper()))
        return said == {"SAME"} if len(said) == 1 else None

    def _endpoint(self) -> AsyncOpenAI:
        if self._client is None:
            key = os.environ.get(self.settings.api_key_env) or "none"
            url, timeout = self.settings.base_url, self.settings.timeout
            self._client = AsyncOpenAI(api_key=key, base_url=url, timeout=timeout, max_retries=RETRIES)
        return self._client
