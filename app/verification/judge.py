"""The binary reward: extract the final answer of a trace, compare it with the reference, say why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from time import perf_counter

from app.records import Verdict
from app.verification.clauses import all_numbers, last_formula
from app.verification.compare import Comparison, compare
from app.verification.extract import Extraction, Missing, candidates
from app.verification.parser import changes_a_number

VERSION = "2"  # bump when a verdict could change; stages put it in their keys


def fingerprint() -> str:
    """Revision of the verifier for manifests and stage keys."""
    return f"verifier-{VERSION}"


def equivalent(reference: str, answer: str, *, question: str | None = None) -> bool:
    """Whether two answers are the same answer, under the policies of docs/verifier.md. False where undecided."""
    return compare(reference, answer, question=question).same


def judge(reference: str, text: str, *, question: str | None = None) -> Verdict:
    """Judge the final answer of a trace.

    Args:
        reference: the right answer, in LaTeX or plain form.
        text: the trace, as sampled.
        question: the problem statement, where known: it settles a few ambiguities (percent, what was
            asked for, options).

    Returns:
        A Verdict with an empty trace_id. `unparsed` means no answer was found or it could not be read; `timeout` and
        `error` say nothing about the trace.
    """
    started = perf_counter()
    outcome, extracted, reason, tier = _judge(reference, text, question)
    return Verdict("", outcome, extracted, reason, tier, perf_counter() - started)


def judge_batch(
    references: Sequence[str], texts: Sequence[str], questions: Sequence[str | None] | None = None
) -> list[Verdict]:
    """Verdicts of aligned rows, in order. Equal (reference, answer, question) rows are compared once."""
    if len(references) != len(texts) or (questions is not None and len(questions) != len(texts)):
        raise ValueError(
            f"judge_batch: {len(references)} references, {len(texts)} texts, "
            f"{'no' if questions is None else len(questions)} questions: the lengths must agree"
        )
    seen: dict[Key, Row] = {}
    verdicts = []
    for i, (reference, text) in enumerate(zip(references, texts, strict=True)):
        started = perf_counter()
        outcome = _judge(reference, text, questions[i] if questions else None, seen)
        verdicts.append(Verdict("", *outcome, perf_counter() - started))
    return verdicts


Row = tuple[str, str | None, str, str]  # outcome, extracted, reason, tier
Key = tuple[str, str, str, str | None]  # reference, answer, evidence, question

STRONG = frozenset({"boxed", "tag", "hash", "phrase", "revised"})
_WORDED = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mbox)\s*\{([^{}]*)\}|\\[$%,;! ]|\$")
_SIGNS = re.compile(r"[\\^_@{}|<>?~#&]")


def _judge(reference: str, text: str, question: str | None, seen: dict[Key, Row] | None = None) -> Row:
    """One trace. A defect of the verifier itself is that row's outcome `error`, named, and no other row's."""
    if not isinstance(reference, str) or not reference.strip():
        return "error", None, "bad-reference", "none"
    if not isinstance(text, str):
        return "error", None, "bad-text", "none"
    try:
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
        key = (reference, found.answer, found.evidence, question)
        if key in seen:
            return seen[key]
        answer, result = found.answer, compare(reference, found.answer, question=question)
        strong = found.evidence in STRONG
        if strong and not result.readable:
            result, answer = _inside(reference, found, question, result)
        if strong or result.readable:
            seen[key] = _outcome(result), answer, result.reason, result.tier
            return seen[key]
        if not _sentence(answer):
            unread.append(answer)
    return "unparsed", None, "no-answer", "none"


def _sentence(answer: str) -> bool:
    """Whether an answer is words and plain numbers: no number is taken out of a formula, which is read whole."""
    words = _WORDED.sub(r" \1 ", answer)
    return _SIGNS.search(words) is None and not changes_a_number(words.partition(",")[0])


def _inside(reference: str, found: Extraction, question: str | None, first: Comparison) -> tuple[Comparison, str]:
    """An answer given as a sentence: its last formula, its only number, or the first one after an anchored phrase."""
    formula = last_formula(found.answer)
    numbers = all_numbers(found.answer)
    if formula is not None:
        inner = formula[0]
    elif not _sentence(found.answer):
        return first, found.answer
    elif len(set(numbers)) == 1 or (numbers and found.evidence == "phrase"):
        inner = numbers[0]
    else:
        return first, found.answer
    result = compare(reference, inner, question=question)
    return (result, inner) if result.readable else (first, found.answer)


def _outcome(result: Comparison) -> str:
    if result.failure is not None:
        return result.failure
    return "correct" if result.same else "incorrect"
