"""Hugging Face's Math-Verify as a verifier; the extra `bench` installs it."""

from __future__ import annotations

import asyncio
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import Any

from app.errors import UserError
from app.records import Problem, Verdict


class MathVerify:
    """Its own extraction and comparison, as they come. Without its time limits, which need a process's main thread."""

    def __init__(self) -> None:
        try:
            self.version = version("math-verify")
        except PackageNotFoundError:
            raise UserError("verification.verifier: math-verify is not installed: pip install -e .[bench]") from None

    def fingerprint(self) -> str:
        return f"math-verify-{self.version}"

    def equivalent(self, reference: str, answer: str) -> bool:
        return self._compare(reference, f"${answer}$")[0] is True

    async def judge(self, problem: Problem, text: str, finish_reason: str | None) -> Verdict:
        started = perf_counter()
        same, found = await asyncio.to_thread(self._compare, problem.answer, text)
        seconds = perf_counter() - started
        if same is None:
            return Verdict("", "unparsed", None, "no-answer", "math-verify", seconds)
        outcome = "correct" if same else "incorrect"
        return Verdict("", outcome, found, "equal" if same else "different", "math-verify", seconds)

    def _compare(self, reference: str, text: str) -> tuple[bool | None, str | None]:
        """Whether they are the same, None where no answer was found in the text; and the answer."""
        from math_verify import parse, verify

        gold: list[Any] = parse(f"${reference}$", parsing_timeout=None)
        found: list[Any] = parse(text, parsing_timeout=None)
        if not found:
            return None, None
        return bool(verify(gold, found, timeout_seconds=None)), str(found[-1])
