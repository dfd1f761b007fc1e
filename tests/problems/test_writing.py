"""One attempt: what is asked in turn, and the name of every end."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable

import pytest

from app.problems import kinds, writing
from app.problems.asking import Ask, Reply, without_reasoning
from app.problems.overlap import statement_digest
from app.problems.settings import SynthesisSettings, VoteSettings
from app.problems.strategies import Material
from app.problems.writing import WRITTEN, Attempt, Writing, read_check, read_solution, read_statement
from app.records import Problem
from app.verification.verifier import BuiltIn

SEEDS = [Problem(f"p{i}", f"Seed problem number {i} of this set?", "1", "train", "x") for i in range(9)]
SETTINGS = SynthesisSettings(count=40, vote=VoteSettings(solutions=5, agreement=0.6, kept=3))
Says = Callable[[Ask], str | Reply | None]


def attempts(says: Says, numbers: range = range(1), ending: str = "hash", **more: object) -> list[Attempt]:
    async def answer(ask: Ask) -> Reply | None:
        said = says(ask)
        return Reply(said, False, 10, 20) if isinstance(said, str) else said

    settings = SETTINGS.model_copy(update=more)
    known = frozenset(statement_digest(seed.statement) for seed in SEEDS)
    made = Writing(answer, Material(SEEDS, 3), settings, 0, ending, True, known, BuiltIn().equivalent)

    async def all_of() -> list[Attempt]:
        return [await made.attempt(number) for number in numbers]

    return asyncio.run(all_of())


def scripted(**said: object) -> Says:
    """Says what is given for write, check and solve; a solution's may be a list, by place."""

    def says(ask: Ask) -> str | Reply | None:
        what, _, rest = ask.name.partition("-")
        found = said.get(what, {"check": "sound", "write": "Problem: What is 3 plus 4 and one?"}.get(what))
        if isinstance(found, list):
            return found[int(rest.partition("-")[2])]
        return found  # type: ignore[return-value]

    return says


def test_a_voted_answer_with_its_distinct_solutions() -> None:
    said = ["7 + 1 = 8\n#### 8", "3 + 5 = 8\n#### 8.0", "so\n#### 9", "7 + 1 = 8\n#### 8"]
    [found] = attempts(scripted(solve=said))
    assert (found.outcome, found.answer, found.votes, found.drawn) == (WRITTEN, "8", 3, 4)
    assert found.solutions == ["7 + 1 = 8\n#### 8", "3 + 5 = 8\n#### 8.0"]
    assert (found.requests, found.read, found.written) == (6, 60, 120)
    problem = found.problem()
    assert (problem.split, problem.source, problem.solution) == ("train", "synthesis", "7 + 1 = 8\n#### 8")
    assert json.loads(problem.meta)["more_solutions"] == ["3 + 5 = 8\n#### 8.0"]


CUT = Reply("Problem: What is 3 plus 4 an", True)
EIGHT = "#### 8 it is\n7 + 1 = 8\n#### 8"


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({"write": None}, writing.TOO_LONG),
        ({"write": "I would rather not."}, writing.UNREAD),
        ({"write": ""}, writing.UNREAD),
        ({"write": CUT}, writing.CUT),
        ({"write": "Problem: Too short"}, kinds.SHORT),
        ({"write": "Problem: Prove that two is two."}, kinds.PROOF),
        ({"write": "Problem: SEED problem  number 3 of this set?"}, writing.COPIED),
        ({"check": "Invalid: several answers."}, f"{writing.INVALID}: several answers"),
        ({"check": "**Invalid:** it is strange"}, writing.INVALID),
        ({"check": "Problem: Is it true that two is two?"}, kinds.YES_NO),
        ({"check": None}, writing.TOO_LONG),
        ({"solve": "no mark"}, writing.NO_ANSWER),
        ({"solve": CUT}, writing.CUT),
        ({"solve": ["#### 1", "#### 2", "#### 3", "#### 4", "#### 5"]}, writing.NO_AGREEMENT),
        ({"solve": ["#### 1", "", "", "#### 1", ""]}, writing.NO_AGREEMENT),
        ({"solve": "#### yes"}, kinds.YES_NO),
        ({"solve": "#### x + y"}, kinds.OTHER_TYPE),
        ({"solve": "#### B"}, kinds.CHOICE),
        ({"write": "Problem: The answer is 8. What is 3 plus 5?", "solve": EIGHT}, kinds.GIVEN_AWAY),
    ],
)
def test_every_end_has_a_name(said: dict[str, object], outcome: str) -> None:
    [found] = attempts(scripted(**said))
    assert found.outcome == outcome
    assert found.answer == "" and not found.solutions


def test_a_mended_draft_is_what_is_solved() -> None:
    solved: list[str] = []

    def says(ask: Ask) -> str:
        if ask.name.startswith("solve"):
            solved.append(ask.text)
        mended = "Problem: What is 3 plus 4 metres, in metres?"
        return scripted(check=mended, solve=EIGHT)(ask)  # type: ignore[return-value]

    [found] = attempts(says)
    assert found.statement == "What is 3 plus 4 metres, in metres?"
    assert solved and all(found.statement in text for text in solved)


def test_without_a_check_the_draft_is_solved_at_once() -> None:
    assert attempts(scripted(solve=EIGHT), check=False)[0].requests == 4


def test_the_answer_is_marked_as_the_recipe_says() -> None:
    asked: list[str] = []

    def says(ask: Ask) -> str:
        asked.append(ask.text)
        return scripted(solve="so \\boxed{8}")(ask)  # type: ignore[return-value]

    [found] = attempts(says, ending="boxed")
    assert (found.answer, list(found.solutions)) == ("8", ["so \\boxed{8}"])
    assert "\\boxed{}" in asked[-1] and not any("####" in text for text in asked)


def test_attempts_are_the_same_in_any_company() -> None:
    def says(ask: Ask) -> str:
        number = int(re.findall(r"\d+", ask.name)[0])
        text = f"Problem: What is {number} plus {ask.seed % 7} and one?"
        return text if ask.name.startswith("write") else f"#### {number}"

    whole = attempts(says, range(12))
    assert [one for start in (0, 4, 8) for one in attempts(says, range(start, start + 4))] == whole
    assert {one.outcome for one in whole} == {WRITTEN}


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("Problem: Tom has 3 apples. How many?", "Tom has 3 apples. How many?"),
        ("Sure!\n\nProblem 4: A b c d\ne f?\n\nSolution: no", "A b c d e f?"),
        ("**Problem:** A b c d e f?\n**Answer:** 3", "A b c d e f?"),
        ("I cannot do that", None),
        ("Problem: ", None),
    ],
)
def test_statements(text: str, statement: str | None) -> None:
    assert read_statement(text) == statement


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<think>Problem: wrong</think>\nProblem: right", "Problem: right"),
        ("Okay, Problem: wrong</think>Problem: right", "Problem: right"),  # the template wrote the opening tag
        ("<think>Problem: it never ends", ""),
        (" plain ", "plain"),
    ],
)
def test_reasoning_is_not_the_answer(text: str, left: str) -> None:
    assert without_reasoning(text) == left


@pytest.mark.parametrize(
    ("text", "answer"),
    [("3 + 4 = 7\n#### 7", "7"), ("no", ""), ("#### ", ""), ("#### 7\nand more", ""), ("#### " + "9" * 61, "")],
)
def test_solutions(text: str, answer: str) -> None:
    found = read_solution(Reply(text, False), "hash")
    assert found.answer == answer and bool(found.fault) == (answer == "")


def test_a_check_that_says_nothing_leaves_the_draft() -> None:
    assert read_check("It is fine.") is None
