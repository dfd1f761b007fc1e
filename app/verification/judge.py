"""The binary reward: extract the final answer of a trace, compare it with the reference, say why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from time import perf_counter

from app.records import FINISH_REASONS, Verdict
from app.verification.compare import Comparison, compare
from app.verification.extract import Extraction, Missing, candidates
from app.verification.limits import MAX_SENTENCE
from app.verification.references import readable
from app.verification.sentence import agrees, value, without_lead, wordy
from app.verification.wording import choice

VERSION = "3"  # bump when a verdict could change; stages put it in their keys


def fingerprint() -> str:
    """Revision of the verifier for manifests and stage keys."""
    return f"verifier-{VERSION}"


def equivalent(reference: str, answer: str, *, question: str | None = None) -> bool:
    """Whether two answers are the same answer, under the policies of docs/verifier.md. False where undecided."""
    result = compare(reference, answer, question=question)
    if result.same or result.readable:
        return result.same
    said = value(answer, boxed=True)  # "7 to the power of 2"
    return said is not None and said != answer and compare(reference, said, question=question).same


def judge(reference: str, text: str, *, question: str | None = None, finish_reason: str | None = None) -> Verdict:
    """Judge the final answer of a trace.

    Args:
        reference: the right answer, in LaTeX or plain form.
        text: the trace, as sampled.
        question: the problem statement, where known: it settles a few ambiguities (percent, what was
            asked for, options).
        finish_reason: how the trace ended: stop, length or abort; None where nobody knows. One that did not end by
            itself has no answer, whatever stands in it: `#### 2` may be the middle of `#### 29`.

    Returns:
        A Verdict with an empty trace_id. `unparsed` means no answer was found or it could not be read (`unfinished`:
        the trace was cut); `timeout` and `error` say nothing about the trace (`bad-reference`: the reference cannot
        be read).
    """
    started = perf_counter()
    outcome, extracted, reason, tier = _judge(reference, text, question, finish_reason)
    return Verdict("", outcome, extracted, reason, tier, perf_counter() - started)


def judge_batch(
    references: Sequence[str],
    texts: Sequence[str],
    questions: Sequence[str | None] | None = None,
    finish_reasons: Sequence[str | None] | None = None,
) -> list[Verdict]:
    """Verdicts of aligned rows, in order, each as `judge` gives it.

    Equal (reference, answer, question) rows are compared once.
    """
    sizes = [None if column is None else len(column) for column in (references, texts, questions, finish_reasons)]
    if set(sizes) - {len(texts), None}:
        told = zip(sizes, ("references", "texts", "questions", "finish reasons"), strict=True)
        listed = ", ".join(f"{'no' if size is None else size} {name}" for size, name in told)
        raise ValueError(f"judge_batch: {listed}: the lengths must agree")
    seen: dict[Key, Row] = {}
    verdicts = []
    for i, (reference, text) in enumerate(zip(references, texts, strict=True)):
        started = perf_counter()
        question = questions[i] if questions else None
        outcome = _judge(reference, text, question, finish_reasons[i] if finish_reasons else None, seen)
        verdicts.append(Verdict("", *outcome, perf_counter() - started))
    return verdicts


Row = tuple[str, str | None, str, str]  # outcome, extracted, reason, tier
Key = tuple[str | None, ...]  # reference, answer, evidence, clause, also, question

UNFINISHED: Row = ("unparsed", None, "unfinished", "none")
STRONG = frozenset({"boxed", "tag", "hash", "phrase", "revised"})
_WORDED = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mbox)\s*\{([^{}]*)\}|\\[$%,;! ]|\$")
_SIGNS = re.compile(r"[\\^_@{}|<>?~#&]")


def _judge(
    reference: str, text: str, question: str | None, ending: str | None, seen: dict[Key, Row] | None = None
) -> Row:
    """One trace. A defect of the verifier itself is that row's outcome `error`, named, and no other row's."""
    if not isinstance(text, str):
        return "error", None, "bad-text", "none"
    if ending not in (None, *FINISH_REASONS):
        return "error", None, "bad-finish-reason", "none"
    try:
        if not readable(reference):
            return "error", None, "bad-reference", "none"
        if ending not in (None, "stop"):
            return UNFINISHED
        return _decide(reference, text, question, {} if seen is None else seen)
    except Exception as error:
        return "error", None, f"internal-{type(error).__name__}", "none"


def _decide(reference: str, text: str, question: str | None, seen: dict[Key, Row]) -> Row:
    unread: list[str] = []
    for found in candidates(text):
        if isinstance(found, Missing):
            return "unparsed", None, found.reason, "none"
        if found.evidence == "number" and any(found.answer.lstrip("$ ") in formula for formula in unread):
            continue
        if found.evidence == "letter" and choice(reference) is None:
            continue
        key = (reference, found.answer, found.evidence, found.clause, found.also, question)
        if key in seen:
            return seen[key]
        answer, result = found.answer, compare(reference, found.answer, question=question)
        strong = found.evidence in STRONG
        if strong:
            result, answer = _within(reference, found, question, result)
        if not result.same and found.also is not None:
            joined = compare(reference, found.also, question=question)
            result, answer = (joined, found.also) if joined.same else (result, answer)
        if strong or result.readable:
            seen[key] = _outcome(result), answer, result.reason, result.tier
            return seen[key]
        if _SIGNS.search(_WORDED.sub(r" \1 ", answer)):
            unread.append(answer)
    return "unparsed", None, "no-answer", "none"


def _within(reference: str, found: Extraction, question: str | None, first: Comparison) -> tuple[Comparison, str]:
    """The answer as it stands; or, given as a sentence, what the sentence says it is."""
    if len(found.answer) > MAX_SENTENCE:
        return first, found.answer
    stands = first.readable and (not found.clause or agrees(found.answer, found.clause))
    if stands and (first.tier in ("words", "number") or not wordy(found.answer)):
        return first, found.answer
    inner = value(found.clause or found.answer, boxed=found.evidence == "boxed")
    if inner is not None:
        return compare(reference, inner, question=question), inner
    if stands and not first.same:
        return first, found.answer
    led = without_lead(found.answer)
    if led != found.answer and not any(c.isdigit() for c in led):
        return compare(reference, led, question=question), led
    return Comparison(False, "unreadable", "none", "unparsed", readable=False), found.answer


def _outcome(result: Comparison) -> str:
    if result.failure is not None:
        return result.failure
    return "correct" if result.same else "incorrect"
