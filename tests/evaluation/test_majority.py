"""maj@k against brute force over all subsets."""

from __future__ import annotations

import itertools
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.evaluation.majority import MOST_SAMPLES, Ballot, ballot, maj_at_k, majority_of

ballots = st.builds(
    Ballot, st.integers(0, 5), st.lists(st.integers(1, 4), max_size=3).map(tuple), st.integers(0, 3)
).filter(lambda b: b.judged)


def brute(votes: Ballot, k: int) -> Fraction:
    """Every subset of k samples, ties shared."""
    samples: list[int | None] = [0] * votes.right + [None] * votes.blank
    for label, size in enumerate(votes.wrong, start=1):
        samples += [label] * size
    total, count = Fraction(0), 0
    for subset in itertools.combinations(samples, k):
        counted = Counter(s for s in subset if s is not None)
        best = max(counted.values(), default=0)
        leaders = [label for label, size in counted.items() if size == best]
        total += Fraction(1, len(leaders)) if 0 in leaders else 0
        count += 1
    return total / count


@given(ballots, st.data())
@settings(max_examples=200, deadline=None)
def test_majority_equals_all_subsets(votes: Ballot, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, votes.judged))
    assert majority_of(votes, k) == pytest.approx(float(brute(votes, k)), abs=1e-12)


@given(ballots)
def test_majority_of_one_is_the_share(votes: Ballot) -> None:
    assert majority_of(votes, 1) == pytest.approx(votes.right / votes.judged)


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        (Ballot(3, (2,)), 1.0),
        (Ballot(2, (3,)), 0.0),
        (Ballot(2, (2,)), 1 / 2),  # a tie of two
        (Ballot(1, (1, 1)), 1 / 3),  # a tie of three
        (Ballot(1, (), 4), 1.0),  # blank samples do not vote
        (Ballot(0, (), 4), 0.0),  # nobody votes
        (Ballot(0, (1,)), 0.0),
        (Ballot(2, (2, 1), 1), 1 / 2),
    ],
)
def test_majority_of_all(votes: Ballot, expected: float) -> None:
    assert majority_of(votes, votes.judged) == pytest.approx(expected)


@given(st.integers(26, 64), st.integers(1, 12), st.integers(1, 64))
@settings(max_examples=30, deadline=None)
def test_majority_of_many_samples_is_a_probability(right: int, wrong: int, k: int) -> None:
    votes = Ballot(right, tuple([3] * wrong), 2)
    value = majority_of(votes, min(k, votes.judged))
    assert right / votes.judged - 1e-9 <= value <= 1  # right leads: more votes cannot hurt


def test_majority_of_the_most_samples() -> None:
    assert majority_of(Ballot(MOST_SAMPLES - 20, (20,)), 30) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("votes", "k"), [(Ballot(2), 3), (Ballot(2), 0), (Ballot(0), 1), (Ballot(MOST_SAMPLES + 1), 1)]
)
def test_majority_refuses_impossible_draws(votes: Ballot, k: int) -> None:
    with pytest.raises(ValueError, match="maj@"):
        majority_of(votes, k)


def numbers(a: str, b: str) -> bool:
    return float(a) == float(b)


def test_ballot_gathers_equal_answers() -> None:
    outcomes = ["correct", "incorrect", "incorrect", "incorrect", "unparsed", "timeout", "error", "correct"]
    answers = ["5", "7", "7.0", "8", None, None, "9", "5.0"]
    assert ballot(outcomes, answers, numbers) == Ballot(2, (2, 1), 1)


def test_ballot_takes_a_wrong_trace_without_an_answer_as_blank() -> None:
    assert ballot(["incorrect"], [None], numbers) == Ballot(0, (), 1)


def test_ballot_asks_about_equal_text_only_once() -> None:
    asked: list[tuple[str, str]] = []

    def same(a: str, b: str) -> bool:
        asked.append((a, b))
        return False

    assert ballot(["incorrect"] * 6, ["1", "1 ", "2", "1", "2", "3"], same) == Ballot(0, (3, 2, 1), 0)
    assert asked == [("1", "2"), ("1", "3"), ("2", "3")]


def test_ballot_refuses_rows_that_do_not_match() -> None:
    with pytest.raises(ValueError):
        ballot(["correct"], [], numbers)


@given(st.lists(st.sampled_from(["correct", "incorrect", "unparsed", "timeout", "error"]), max_size=20), st.randoms())
def test_ballot_ignores_the_order(outcomes: list[str], dice: object) -> None:
    rows = [(o, str(i % 3 + 1)) for i, o in enumerate(outcomes)]
    mixed = list(rows)
    dice.shuffle(mixed)  # type: ignore[attr-defined]
    one = ballot([r[0] for r in rows], [r[1] for r in rows], numbers)
    assert one == ballot([r[0] for r in mixed], [r[1] for r in mixed], numbers)
    assert one.judged == sum(o in ("correct", "incorrect", "unparsed") for o in outcomes)


def test_maj_at_k_leaves_out_problems_with_too_few_judged_samples() -> None:
    estimate = maj_at_k([Ballot(3, (1,)), Ballot(1, (3,)), Ballot(1)], 3)
    assert estimate.n == 2
    assert estimate.value == pytest.approx((1.0 + 0.0) / 2)
    assert maj_at_k([Ballot(1)], 2).n == 0
