"""Every pair of cases.py, and what must hold of any comparison over them."""

from __future__ import annotations

from itertools import pairwise

import pytest

from app.verification import equivalent
from app.verification.compare import compare
from tests.verification.cases import DIFFERENT, SAME

# Classes where order of the two sides cannot matter: no precision, no dropped unit, no choice of reference.
SYMMETRIC = ("fraction", "interval", "matrix", "expression", "calculus")


def pairs(table: dict[str, list[tuple[str, str]]]) -> list[object]:
    return [pytest.param(r, a, id=f"{kind}-{r}~{a}"[:80]) for kind, rows in table.items() for r, a in rows]


def test_there_are_several_hundred_cases_of_each_side() -> None:
    assert sum(map(len, SAME.values())) > 600
    assert sum(map(len, DIFFERENT.values())) > 250


@pytest.mark.parametrize(("reference", "answer"), pairs(SAME))
def test_same(reference: str, answer: str) -> None:
    assert equivalent(reference, answer), compare(reference, answer)


@pytest.mark.parametrize(("reference", "answer"), pairs(DIFFERENT))
def test_different(reference: str, answer: str) -> None:
    assert not equivalent(reference, answer), compare(reference, answer)


@pytest.mark.parametrize("kind", SAME)
def test_every_reference_equals_itself(kind: str) -> None:
    failed = [text for pair in SAME[kind] for text in pair if not equivalent(text, text)]
    assert failed == [text for text in failed if text in ("6\\cdot7=42",)]


@pytest.mark.parametrize("kind", SYMMETRIC)
def test_symmetric(kind: str) -> None:
    exact = [(r, a) for r, a in SAME[kind] if (r, a) != ("\\frac{33}{100}", "0.33")]
    assert [(a, r) for r, a in exact if not equivalent(a, r)] == []


def test_references_of_different_pairs_do_not_pass_for_one_another() -> None:
    """Across the classes of expressions no reference may pass for the next one."""
    references = [r for kind in ("expression", "matrix", "tuple") for r, _ in SAME[kind]]
    passed = {(a, b) for a, b in pairwise(references) if equivalent(a, b)}
    known_equal = {(a, b) for a, b in passed if equivalent(b, a)}
    assert passed == known_equal


@pytest.mark.parametrize(
    ("reference", "answer", "question", "same"),
    [
        ("0.3", "0.3\\%", "What percent of the balls are red?", True),
        ("10", "2x=10", "If $x = 5$, what is $2x$?", True),
        ("10", "2x=10", "If $x = 5$, what is $3x$?", False),
        ("B", "12", "What is 3*4?\n(A) 10 (B) 12 (C) 14", True),
        ("B", "14", "What is 3*4?\n(A) 10 (B) 12 (C) 14", False),
        ("B", "$\\frac12$", "Half?\nA. 1/3\nB. 1/2\nC. 1", True),
    ],
)
def test_the_question_settles_ambiguities(reference: str, answer: str, question: str, same: bool) -> None:
    assert equivalent(reference, answer, question=question) is same


@pytest.mark.parametrize(
    ("reference", "answer", "reason", "tier"),
    [
        ("5", "5", "equal", "number"),
        ("42", "41 = 42", "false-chain", "exact"),
        ("5", "9^{9^{9}}", "different", "modular"),
        ("5", "9^{9^{9^{9}}}", "too-costly", "numeric"),
        ("5", "1/0", "undefined", "exact"),
        ("5", "(((", "unreadable", "none"),
        ("x^2", "x\\cdot x", "equal", "modular"),
        ("\\sin 2x", "2\\sin x\\cos x", "equal", "numeric"),
        ("1", "\\lim_{x\\to0}\\frac{\\sin x}{x}", "equal", "symbolic"),
        ("A", "B", "different", "words"),
    ],
)
def test_reasons_and_tiers_are_stable(reference: str, answer: str, reason: str, tier: str) -> None:
    found = compare(reference, answer)
    assert (found.reason, found.tier) == (reason, tier)
