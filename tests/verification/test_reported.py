"""Cases of public bug reports: none credited wrongly, and those decided otherwise are named."""

from __future__ import annotations

import pytest

from app.verification import equivalent, judge
from tests.verification.reported import PAIRS, TRACES

# Rows that we do not decide as labelled.
OPEN: frozenset[str] = frozenset([])


@pytest.mark.parametrize(
    ("reference", "answer", "same"), [pytest.param(*row[2:], id=row[0]) for row in PAIRS if row[0] not in OPEN]
)
def test_pair(reference: str, answer: str, same: bool) -> None:
    assert equivalent(reference, answer) is same


@pytest.mark.parametrize(
    ("reference", "trace", "question", "correct"),
    [pytest.param(*row[2:], id=row[0]) for row in TRACES if row[0] not in OPEN],
)
def test_trace(reference: str, trace: str, question: str | None, correct: bool) -> None:
    verdict = judge(reference, trace, question=question)
    assert verdict.correct is correct, verdict
