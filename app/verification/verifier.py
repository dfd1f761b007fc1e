"""Whoever judges traces: the built-in verifier, Math-Verify, a class of the user's own, with a model to ask or without.

    class Grader:                                     # my_grader.py, beside the job or in its working directory
        def fingerprint(self) -> str: ...             # another one = other verdicts: stages put it in their keys
        def equivalent(self, reference: str, answer: str) -> bool: ...
        async def judge(self, problem: Problem, text: str, finish_reason: str | None) -> Verdict: ...

and `verification: {verifier: "my_grader:Grader"}` in the recipe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import Protocol, runtime_checkable

from app.errors import UserError
from app.records import Problem, Verdict
from app.verification.judge import UNFINISHED, equivalent, fingerprint, judge, judge_batch
from app.verification.settings import BUILT_IN, MATH_VERIFY, VerificationSettings


@runtime_checkable
class Verifier(Protocol):
    """Judges one trace at a time. A Verdict's trace_id may be empty: whoever asks knows which trace it was."""

    def fingerprint(self) -> str: ...

    def equivalent(self, reference: str, answer: str) -> bool: ...

    async def judge(self, problem: Problem, text: str, finish_reason: str | None) -> Verdict: ...


class BuiltIn:
    """The verifier of docs/verifier.md."""

    def fingerprint(self) -> str:
        return fingerprint()

    def equivalent(self, reference: str, answer: str) -> bool:
        return equivalent(reference, answer)

    async def judge(self, problem: Problem, text: str, finish_reason: str | None) -> Verdict:
        return await asyncio.to_thread(
            judge, problem.answer, text, question=problem.statement or None, finish_reason=finish_reason
        )


def verifier_of(settings: VerificationSettings) -> Verifier:
    """The verifier a recipe asks for; cheap, for plans make one too. Raises UserError where there is none such."""
    found: Verifier
    if settings.verifier == BUILT_IN:
        found = BuiltIn()
    elif settings.verifier == MATH_VERIFY:
        from app.verification.math_verify import MathVerify

        found = MathVerify()
    else:
        found = _own(settings)
    if settings.llm is None:
        return found
    from app.verification.llm import LlmVerifier

    return LlmVerifier(settings.llm, found)


def _own(settings: VerificationSettings) -> Verifier:
    """An instance of the user's class."""
    module, _, name = settings.verifier.partition(":")
    where = f"verification.verifier: {settings.verifier}"
    try:
        made = getattr(import_module(module), name)(**settings.options)
    except (ImportError, AttributeError, TypeError) as error:
        raise UserError(f"{where} cannot be made: {error}") from error
    if not isinstance(made, Verifier):
        raise UserError(f"{where} must have fingerprint(), equivalent() and judge() (app/verification/verifier.py)")
    return made


async def verdicts(
    verifier: Verifier, problems: Sequence[Problem], texts: Sequence[str], endings: Sequence[str | None]
) -> list[Verdict]:
    """Verdicts of aligned rows, in order: each row's problem, what its trace says and how that ended.

    A trace that did not end by itself has no answer, whoever judges. Raises UserError where a verifier of the user's
    own fails: its mistake is not a trace's.
    """
    if isinstance(verifier, BuiltIn):
        answers, statements = [p.answer for p in problems], [p.statement or None for p in problems]
        return await asyncio.to_thread(judge_batch, answers, list(texts), statements, list(endings))
    rows = zip(problems, texts, endings, strict=True)
    try:
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(_one(verifier, *row)) for row in rows]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None  # one of them is enough; the others were cancelled
    return [task.result() for task in asked]


async def _one(verifier: Verifier, problem: Problem, text: str, ending: str | None) -> Verdict:
    if ending not in (None, "stop"):
        return Verdict("", *UNFINISHED, 0.0)
    try:
        found = await verifier.judge(problem, text, ending)
    except UserError:
        raise
    except Exception as error:
        name = type(verifier).__name__
        raise UserError(f"{name}.judge failed on a trace of problem {problem.id}: {error!r}") from error
    if not isinstance(found, Verdict):
        raise UserError(f"{type(verifier).__name__}.judge must return a Verdict, and returned {type(found).__name__}")
    return replace(found, trace_id="")
