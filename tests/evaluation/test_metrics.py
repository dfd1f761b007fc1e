"""Accuracy, pass@k and paired comparison against brute force and published values."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.evaluation.metrics import Paired, accuracy, paired, pass_at_k, pass_at_k_of, tries
from app.records import OUTCOMES
from app.statistics import wilson

outcomes = st.lists(st.sampled_from(OUTCOMES), max_size=60)
cells = st.tuples(st.integers(0, 80), st.integers(0, 80), st.integers(0, 200))


@given(outcomes)
def test_every_outcome_is_counted_once(drawn: list[str]) -> None:
    counted = accuracy(drawn)
    assert counted.judged + counted.undecided == len(drawn)
    assert counted.correct + drawn.count("incorrect") + counted.unparsed == counted.judged
    assert counted.undecided == drawn.count("timeout") + drawn.count("error")


@given(outcomes, st.lists(st.sampled_from(["timeout", "error"]), max_size=20))
def test_undecided_verdicts_move_no_accuracy(drawn: list[str], extra: list[str]) -> None:
    before, after = accuracy(drawn).estimate, accuracy(drawn + extra).estimate
    assert before.json() == after.json()


def test_unparsed_is_wrong() -> None:
    estimate = accuracy(["correct", "unparsed", "incorrect", "correct"]).estimate
    assert estimate.value == 0.5 and estimate.n == 4
    assert (estimate.low, estimate.high) == wilson(2, 4)


def test_accuracy_of_nothing_judged() -> None:
    estimate = accuracy(["timeout"]).estimate
    assert math.isnan(estimate.value) and (estimate.low, estimate.high, estimate.n) == (0.0, 1.0, 0)


@pytest.mark.parametrize("bad", ["Correct", "", "wrong", "ok"])
def test_unknown_outcome_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="unknown outcome"):
        accuracy(["correct", bad])


@pytest.mark.parametrize("n", range(1, 9))
def test_pass_at_k_equals_all_subsets(n: int) -> None:
    for correct in range(n + 1):
        right = [i < correct for i in range(n)]
        for k in range(1, n + 1):
            subsets = list(itertools.combinations(right, k))
            assert pass_at_k_of(correct, n, k) == pytest.approx(sum(any(s) for s in subsets) / len(subsets))


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_a_rising_probability(case: tuple[int, int, int]) -> None:
    n, correct, k = case
    value = pass_at_k_of(correct, n, k)
    assert 0 <= value <= 1
    assert pass_at_k_of(correct, n, 1) == pytest.approx(correct / n)
    if k < n:
        assert pass_at_k_of(correct, n, k + 1) >= value
    if correct < n:
        assert pass_at_k_of(correct + 1, n, k) >= value
    if correct > n - k:  # not enough wrong ones to fill the draw
        assert value == 1


def test_pass_at_k_is_unbiased() -> None:
    """Averaged over draws of n samples it is 1 - (1 - p)^k, which the plug-in estimate is not."""
    p, n, k = 0.3, 8, 4
    chance = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    assert sum(w * pass_at_k_of(c, n, k) for c, w in enumerate(chance)) == pytest.approx(1 - (1 - p) ** k)
    assert sum(w * (1 - (1 - c / n) ** k) for c, w in enumerate(chance)) != pytest.approx(1 - (1 - p) ** k, abs=0.01)


@pytest.mark.parametrize(("correct", "n", "k"), [(3, 2, 1), (-1, 2, 1), (0, 2, 3), (0, 2, 0), (0, 0, 1)])
def test_pass_at_k_refuses_impossible_counts(correct: int, n: int, k: int) -> None:
    with pytest.raises(ValueError, match="pass@"):
        pass_at_k_of(correct, n, k)


def test_pass_at_k_leaves_out_problems_with_too_few_judged_samples() -> None:
    samples = [["correct", "incorrect"], ["incorrect", "unparsed"], ["correct", "timeout"]]
    assert pass_at_k(samples, 2).n == 2
    assert pass_at_k(samples, 2).value == pytest.approx(0.5)
    assert pass_at_k(samples, 1).value == pytest.approx(0.5)  # 1/2, 0, and 1 of the one judged
    assert pass_at_k(samples, 3).n == 0


@given(st.lists(outcomes, min_size=1, max_size=12), st.integers(1, 4))
@settings(max_examples=40)
def test_pass_at_k_interval_holds_the_mean(samples: list[list[str]], k: int) -> None:
    estimate = pass_at_k(samples, k)
    if estimate.n:
        assert 0 <= estimate.low <= estimate.high <= 1
        assert estimate.low - 1e-9 <= estimate.value <= estimate.high + 1e-9 or estimate.n < 4


@pytest.mark.parametrize(
    ("samples", "expected"),
    [(0, []), (1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 4]), (5, [1, 2, 4, 5]), (64, [1, 2, 4, 8, 16, 32, 64])],
)
def test_tries(samples: int, expected: list[int]) -> None:
    assert tries(samples) == expected


# -- two methods ------------------------------------------------------------------------------------------------------


def test_paired_counts_only_problems_of_both() -> None:
    first = {"a": "correct", "b": "correct", "c": "incorrect", "d": "timeout", "e": "correct"}
    other = {"a": "correct", "b": "incorrect", "c": "correct", "d": "correct", "f": "correct"}
    result = paired(first, other)
    assert (result.gained, result.lost, result.n, result.undecided) == (1, 1, 3, 1)


@given(st.dictionaries(st.integers(0, 40), st.tuples(st.sampled_from(OUTCOMES), st.sampled_from(OUTCOMES))))
def test_paired_difference_is_the_difference_of_accuracies(rows: dict[int, tuple[str, str]]) -> None:
    judged = {i: r for i, r in rows.items() if not {"timeout", "error"} & set(r)}
    first, other = ({str(i): r[side] for i, r in rows.items()} for side in (0, 1))
    result = paired(first, other)
    assert result.n == len(judged) and result.undecided == len(rows) - len(judged)
    if judged:
        a, b = (accuracy([r[side] for r in judged.values()]).estimate.value for side in (0, 1))
        assert result.difference.value == pytest.approx(a - b)


@given(cells)
def test_paired_difference_is_antisymmetric(cell: tuple[int, int, int]) -> None:
    gained, lost, same = cell
    one = Paired(gained, lost, gained + lost + same, 0)
    two = Paired(lost, gained, gained + lost + same, 0)
    assert one.p_value == two.p_value
    if one.n:
        assert one.difference.low == pytest.approx(-two.difference.high)
        assert one.difference.value == pytest.approx(-two.difference.value)


@given(cells)
def test_paired_interval_holds_the_difference(cell: tuple[int, int, int]) -> None:
    gained, lost, same = cell
    result = Paired(gained, lost, gained + lost + same, 0)
    difference = result.difference
    if result.n:
        assert -1 <= difference.low <= difference.value <= difference.high <= 1
        assert difference.high > difference.low


def test_paired_interval_is_narrower_where_methods_agree() -> None:
    """The point of pairing: the same two accuracies, told apart better when mistakes are shared."""
    agree, disagree = Paired(60, 20, 1000, 0).difference, Paired(260, 220, 1000, 0).difference
    assert agree.value == disagree.value == pytest.approx(0.04)
    assert agree.low > 0 > disagree.low


def test_paired_interval_covers() -> None:
    dice, hits, trials = random.Random(4), 0, 1500
    for _ in range(trials):
        rolls = [dice.random() for _ in range(120)]
        gained, lost = sum(r < 0.15 for r in rolls), sum(0.15 <= r < 0.22 for r in rolls)
        difference = Paired(gained, lost, 120, 0).difference
        hits += difference.low <= 0.08 <= difference.high
    assert 0.93 < hits / trials < 0.985


def test_paired_without_problems() -> None:
    result = paired({}, {"a": "correct"})
    assert result.n == 0 and math.isnan(result.difference.value) and result.p_value == 1.0


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (6, 0, 0.03125), (10, 2, 158 / 4096), (7, 7, 1.0), (8, 3, 464 / 2048)],
)
def test_mcnemar(gained: int, lost: int, p: float) -> None:
    assert Paired(gained, lost, 100, 0).p_value == pytest.approx(p)


@given(cells)
def test_mcnemar_equals_the_sum_over_all_tables(cell: tuple[int, int, int]) -> None:
    gained, lost, _ = cell
    moved = gained + lost
    extreme = [i for i in range(moved + 1) if abs(2 * i - moved) >= abs(gained - lost)]
    assert Paired(gained, lost, moved, 0).p_value == pytest.approx(sum(math.comb(moved, i) for i in extreme) / 2**moved)


def test_mcnemar_of_many_problems_does_not_overflow() -> None:
    assert 0 < Paired(6000, 5800, 20000, 0).p_value < 0.1
