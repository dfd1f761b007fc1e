"""Every pair of forms.py, and boxes that are read whole or not at all."""

from __future__ import annotations

import pytest

from app.verification import equivalent, judge
from app.verification.compare import compare
from tests.verification.forms import DIFFERENT, SAME, UNREAD
from tests.verification.test_cases import pairs


@pytest.mark.parametrize(("reference", "answer"), pairs(SAME))
def test_same(reference: str, answer: str) -> None:
    assert equivalent(reference, answer), compare(reference, answer)


@pytest.mark.parametrize(("reference", "answer"), pairs(DIFFERENT))
def test_different(reference: str, answer: str) -> None:
    assert not equivalent(reference, answer), compare(reference, answer)


@pytest.mark.parametrize("frame", ["\\boxed{%s}", "So it is $%s$.", "The answer is $%s$.", "#### %s", "%s"])
@pytest.mark.parametrize(("number", "content"), UNREAD)
def test_no_number_is_taken_out_of_what_cannot_be_read(number: str, content: str, frame: str) -> None:
    assert judge(number, frame % content).outcome != "correct"


def test_two_times_are_a_ratio_where_the_question_says_so() -> None:
    assert equivalent("1:20", "2:40", question="What is the ratio of the two parts?")
    assert not equivalent("1:20", "2:40", question="When do the hands meet?")


@pytest.mark.parametrize(
    ("reference", "trace", "correct"),
    [
        ("12", "So it is \\sqrt{12} cm.", False),
        ("2", "So it is x^{2} cm.", False),
        ("3", "So he has \\frac{2}{3} of it.", False),
        ("2/3", "So he has \\frac{2}{3} of it.", True),
        ("3", "So he has 2\\sqrt{3} left.", False),
        ("2", "The area is \\binom{5}{2} then.", False),
        ("3/4", "So 2 \\frac{3}{4} cups.", False),
        ("11/4", "So 2 \\frac{3}{4} cups.", True),
        ("8", "So we get 2^{3} people.", True),
        ("46.5", "The answer is 46\\frac{6}{12} cups", True),
        ("12", "The answer is 46\\frac{6}{12} cups", False),
    ],
)
def test_a_formula_without_delimiters_is_read_whole(reference: str, trace: str, correct: bool) -> None:
    assert judge(reference, trace).correct is correct
