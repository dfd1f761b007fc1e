"""The vote: what wins, and that asking in batches decides as asking all at once would."""

from __future__ import annotations

import asyncio
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.problems.settings import VoteSettings
from app.problems.vote import Poll, Solved, distinct, poll


def same(a: str, b: str) -> bool:
    return float(a) == float(b)


def drawn(answers: list[str], settings: VoteSettings) -> tuple[Poll, list[int]]:
    """The poll over a script of answers ("" = none), and the numbers that were asked."""
    asked: list[int] = []

    async def solve(number: int) -> Solved:
        asked.append(number)
        await asyncio.sleep(0)
        said = answers[number]
        return Solved(said, f"text {number}") if said else Solved(fault="no answer in the solutions")

    return asyncio.run(poll(settings, same, solve)), asked


def whole(answers: list[str], settings: VoteSettings) -> str | None:
    """What all solutions together decide, by the rule as it is told."""
    groups: dict[float, int] = {}
    for said in answers:
        if said:
            groups[float(said)] = groups.get(float(said), 0) + 1
    ranked = sorted(groups.items(), key=lambda item: -item[1])
    if not ranked or ranked[0][1] < math.ceil(settings.agreement * settings.solutions - 1e-9):
        return None
    if len(ranked) > 1 and ranked[1][1] == ranked[0][1]:
        return None
    return str(ranked[0][0])


@given(
    st.lists(st.sampled_from(["", "1", "1.0", "2", "3"]), min_size=9, max_size=9),
    st.integers(1, 9),
    st.floats(0.05, 1.0),
)
def test_batches_decide_what_all_would(answers: list[str], solutions: int, agreement: float) -> None:
    settings = VoteSettings(solutions=solutions, agreement=agreement)
    found, asked = drawn(answers, settings)
    winner = found.winner
    assert (None if winner is None else str(float(winner[0].answer))) == whole(answers[:solutions], settings)
    assert asked == list(range(len(asked))) and len(asked) <= solutions


@given(st.lists(st.sampled_from(["", "1", "2"]), min_size=9, max_size=9), st.integers(1, 9), st.floats(0.05, 1.0))
def test_nothing_is_asked_in_vain(answers: list[str], solutions: int, agreement: float) -> None:
    """Without the last one that was asked, another end would have been possible."""
    settings = VoteSettings(solutions=solutions, agreement=agreement)
    _, asked = drawn(answers, settings)
    before = answers[: len(asked) - 1]
    ends = set()
    for rest in (["1"] * 9, ["2"] * 9, [""] * 9, ["3"] * 9):
        ends.add(whole((before + rest)[:solutions], settings))
    assert len(ends) > 1


def ahead(answers: list[str], margin: int) -> tuple[str | None, int]:
    """By the rule of the margin as it is told: who wins, and how many solutions that takes at least."""
    counts: dict[str, int] = {}
    for number in range(len(answers) + 1):
        first, second, *_ = [*sorted(counts.values(), reverse=True), 0, 0]
        if first - second >= margin:
            return max(counts, key=lambda said: counts[said]), number
        if first - second + len(answers) - number < margin:
            return None, number
        if answers[number]:
            counts[answers[number]] = counts.get(answers[number], 0) + 1
    raise AssertionError("the last solution decides")


@given(st.lists(st.sampled_from(["", "1", "2", "3"]), min_size=1, max_size=14), st.integers(1, 5))
def test_a_margin_wins_as_soon_as_it_is_there(answers: list[str], margin: int) -> None:
    margin = min(margin, len(answers))
    found, asked = drawn(answers, VoteSettings(solutions=len(answers), margin=margin))
    winner, solutions = ahead(answers, margin)
    assert (found.winner[0].answer if found.winner else None, len(asked)) == (winner, solutions)


@pytest.mark.parametrize("body", [{"margin": 2, "agreement": 0.5}, {"agreement": None}, {"margin": 9, "solutions": 8}])
def test_one_rule_that_can_be_met(body: dict[str, float | None]) -> None:
    with pytest.raises(ValueError, match="one of the two|cannot be reached with 8 solutions; raise solutions"):
        VoteSettings.model_validate(body)


def test_settings_are_read_as_they_were_written() -> None:
    for settings in (VoteSettings(), VoteSettings(solutions=16, margin=4)):
        assert VoteSettings.model_validate(settings.model_dump(mode="json")) == settings


def test_equal_answers_in_other_words_vote_together() -> None:
    found, _ = drawn(["2", "2.0", "3", "2", "3"], VoteSettings(solutions=5, agreement=0.6))
    assert found.winner and [solved.text for solved in found.winner] == ["text 0", "text 1", "text 3"]


def test_agreement_of_all_stops_at_the_first_other_answer() -> None:
    found, asked = drawn(["2", "3", "2"], VoteSettings(solutions=3, agreement=1.0))
    assert found.winner is None and asked == [0, 1]


@pytest.mark.parametrize("kept", [1, 2, 9])
def test_kept_solutions_are_distinct_and_in_order(kept: int) -> None:
    group = [Solved("1", text) for text in ("a  b", "a b", "c", "a b", "d")]
    assert distinct(group, kept) == ["a  b", "c", "d"][:kept]


def test_a_single_solution_is_the_old_way() -> None:
    rng = random.Random(0)
    answers = [str(rng.randint(1, 3)) for _ in range(9)]
    found, asked = drawn(answers, VoteSettings(solutions=1, agreement=1.0))
    assert asked == [0] and found.winner and found.winner[0].answer == answers[0]
