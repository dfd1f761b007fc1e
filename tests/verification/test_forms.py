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
