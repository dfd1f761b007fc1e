"""Traces, batches, and calls from threads and asyncio."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.records import OUTCOMES, Verdict
from app.verification import fingerprint, judge, judge_batch
from app.verification import judge as judge_function
from tests.verification.traces import TRACES


@pytest.mark.parametrize(("reference", "trace", "outcome"), [pytest.param(*t, id=f"{t[1]!r}"[:70]) for t in TRACES])
def test_trace(reference: str, trace: str, outcome: str) -> None:
    assert judge(reference, trace).outcome == outcome, judge(reference, trace)


def test_a_verdict_says_what_was_extracted_and_why() -> None:
    verdict = judge("18", "So it is \\boxed{18}.")
    assert verdict == Verdict("", "correct", "18", "equal", "number", verdict.seconds)
    assert verdict.seconds >= 0


@pytest.mark.parametrize(
    ("reference", "text", "reason"), [("", "5", "bad-reference"), (None, "5", "bad-reference"), ("5", None, "bad-text")]
)
def test_rows_that_are_no_text_are_errors_not_wrong_answers(reference: object, text: object, reason: str) -> None:
    verdict = judge(reference, text)  # type: ignore[arg-type]
    assert (verdict.outcome, verdict.reason) == ("error", reason)


def _plain(verdict: Verdict) -> tuple[str, str | None, str, str]:
    return verdict.outcome, verdict.extracted, verdict.reason, verdict.tier


def test_a_batch_gives_what_single_calls_give_and_compares_each_pair_once(monkeypatch: pytest.MonkeyPatch) -> None:
    references = [t[0] for t in TRACES] * 3
    texts = [t[1] for t in TRACES] * 3
    singles = [_plain(judge(r, t)) for r, t in zip(references, texts, strict=True)]
    assert [_plain(v) for v in judge_batch(references, texts)] == singles

    module = sys.modules["app.verification.judge"]  # the package exports a function of that name
    calls = []
    original = module.compare
    monkeypatch.setattr(module, "compare", lambda *a, **k: calls.append(a) or original(*a, **k))
    judge_batch(["5"] * 100, [f"Step {i}.\nThe answer is \\boxed{{{i % 4}}}" for i in range(100)])
    assert len(calls) == 4


def test_a_batch_of_unequal_lengths_is_an_error() -> None:
    with pytest.raises(ValueError, match="lengths must agree"):
        judge_batch(["1"], ["1", "2"])


def test_one_poisoned_row_changes_no_other_verdict() -> None:
    poison = ["(" * 10_000, "9^{9^{9}}", "\x00", "1" * 100_000, None, "\ud800"]
    references, texts = ["5"] * 18, [text for p in poison for text in ("\\boxed{5}", p, "\\boxed{6}")]
    outcomes = [v.outcome for v in judge_batch(references, texts)]  # type: ignore[arg-type]
    assert outcomes[0::3] == ["correct"] * 6
    assert outcomes[2::3] == ["incorrect"] * 6
    assert "correct" not in outcomes[1::3]


def test_the_same_from_threads_and_asyncio() -> None:
    expected = [_plain(judge(r, t)) for r, t, _ in TRACES]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(lambda t: _plain(judge_function(t[0], t[1])), TRACES))

    async def gather() -> list[tuple[str, str | None, str, str]]:
        return [
            _plain(v) for v in await asyncio.gather(*(asyncio.to_thread(judge_function, r, t) for r, t, _ in TRACES))
        ]

    assert threaded == expected
    assert asyncio.run(gather()) == expected


def test_a_defect_is_an_error_of_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["app.verification.judge"]
    original = module.compare
    monkeypatch.setattr(module, "compare", lambda r, a, **k: 1 / 0 if a == "13" else original(r, a, **k))
    found = judge_batch(["5"] * 3, ["\\boxed{5}", "\\boxed{13}", "\\boxed{6}"])
    assert [(v.outcome, v.reason) for v in found] == [
        ("correct", "equal"),
        ("error", "internal-ZeroDivisionError"),
        ("incorrect", "different"),
    ]


def test_outcomes_are_the_vocabulary() -> None:
    assert {judge(r, t).outcome for r, t, _ in TRACES} <= set(OUTCOMES)
    assert fingerprint().startswith("verifier-")
