"""Problems that cannot be used, each for its reason."""

from __future__ import annotations

import pytest

from app.problems import kinds
from app.problems.kinds import all_numbers, fault_of_answer, fault_of_statement, is_number


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("Tom has 3 apples and eats one. How many are left?", None),
        ("Find the value of $x$ if $2x = 6$.", None),
        ("Is it true that Tom has 3 apples when he eats one of four?", kinds.YES_NO),
        ("If Tom has 3 apples, what is the number of apples left, and is it odd?", None),
        ("Tom has 3 apples. Can he give 2 to each of two friends?", kinds.YES_NO),
        ("Can you find how many apples Tom has if he had 3 and ate 1?", None),
        ("Prove that the sum of two odd numbers is even.", kinds.PROOF),
        ("Show that 3 divides n for all such n as told above.", kinds.PROOF),
        ("Which of the following is a prime number: 4, 6, 7 or 9?", kinds.CHOICE),
        ("What is 2 plus 2 in this sum? A) 3 B) 4 C) 5 D) 6", kinds.CHOICE),
        ("What is 2 plus 2 now? (a) 3 (b) 4 (c) 5", kinds.CHOICE),
        ("A shop sells pens. (a) How many pens? (b) How much money?", kinds.PARTS),
        ("A shop sells 3 pens. How many are left? How much money is made?", kinds.PARTS),
        ("What is the area of the figure shown below in square metres?", None),
        ("In the figure below, what is the area of the square?", kinds.OUTSIDE),
        ("See https://example.org for it. How many pens are there?", kinds.OUTSIDE),
        ("Tom has 3 apples and eats one of them.", kinds.NOTHING_ASKED),
        ("How many?", kinds.SHORT),
        ("How many " + "very " * 1000 + "many?", kinds.LONG),
    ],
)
def test_statements(statement: str, fault: str | None) -> None:
    assert fault_of_statement(statement) == fault


@pytest.mark.parametrize(
    ("statement", "answer", "numeric", "fault"),
    [
        ("How many are left?", "12", True, None),
        ("How many are left?", "12 apples", True, None),
        ("What is x?", r"\frac{3}{4}", True, None),
        ("What is x?", "x + 1", True, kinds.OTHER_TYPE),
        ("What is x?", "x + 1", False, None),
        ("Are there any left of them?", "Yes", False, kinds.YES_NO),
        ("Are there any left of them?", r"\text{no}", False, kinds.YES_NO),
        ("Which letter?", r"\text{(B)}", False, kinds.CHOICE),
        ("How many? The answer is 12.", "12", True, kinds.GIVEN_AWAY),
        ("How many? The answer is 120.", "12", True, None),
        ("If the old answer is 7, what was x?", "12", True, None),
        ("How many? #### 12", "12", True, kinds.GIVEN_AWAY),
    ],
)
def test_answers(statement: str, answer: str, numeric: bool, fault: str | None) -> None:
    assert fault_of_answer(statement, answer, numeric) == fault


@pytest.mark.parametrize("answer", ["3", "-3.5", "$1,200", "75%", "12 cm^2", "3/4", r"\frac{1}{2}", "5 hours"])
def test_numbers(answer: str) -> None:
    assert is_number(answer)


@pytest.mark.parametrize("answer", ["x", "(1, 2)", r"\sqrt{2}", "2x+1", "3 or 4, as told", r"3\sqrt{2}+1"])
def test_other_answers(answer: str) -> None:
    assert not is_number(answer)


def test_seeds_ask_for_numbers_where_nearly_all_are() -> None:
    assert all_numbers(["1"] * 95 + ["x"] * 5)
    assert not all_numbers(["1"] * 94 + ["x"] * 6)
    assert not all_numbers([])
