"""Signatures and the greedy choice."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from app.datasets.diversity import most_diverse, signature, sums

WORDS = st.lists(st.integers(0, 3), max_size=70)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("12 + 7 = 19\n19 - 5 - 3 = 11\n#### 11", ("12+7=19", "19-5-3=11")),
        ("She earns 3 * $4 = $12.", ("3*4=12",)),
        ("<<48/2=24>>24 clips and <<48+24=72>>72", ("48/2=24", "48+24=72")),
        ("1,200 * 2 = 2,400", ("1200*2=2400",)),
        ("3 × 4 = 12", ("3*4=12",)),
        ("$3 \\times 4 = 12$", ("3*4=12",)),
        ("2 + 2 = 4 = 1 * 4", ("2+2=4", "4=1*4")),
        ("Cost = 3 * 4 = 12", ("3*4=12",)),
        ("3.5*2=7. 7+1=8", ("3.5*2=7", "7+1=8")),
        ("2x + 3 = 7\n7 - 3 = 4", ("2x + 3 = 7", "7-3=4")),
        ("3 apples * $4 = $12", ("3 apples * $4 = $12",)),
        ("x - y = 3", ("x - y = 3",)),
        ("x = 4", ()),
        ("no sums at all", ()),
        ("", ()),
    ],
)
def test_sums(text: str, found: tuple[str, ...]) -> None:
    assert sums(text) == found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2x + 3 = 7\n7 - 3 = 4", "5y + 3 = 7\n7 - 3 = 4"),
        ("3 apples * $4 = $12\n12 + 1 = 13", "6 pears * $4 = $12\n12 + 1 = 13"),
        ("x + y = 10\n10 - 3 = 7", "x - y = 10\n10 - 3 = 7"),
        ("3.5*2=7. 7+1=8", "3.5*2=7. 6+2=8"),
    ],
)
def test_distinct_solutions_do_not_merge(one: str, other: str) -> None:
    assert signature(one) != signature(other)


def test_same_sums_in_other_words_are_the_same_solution() -> None:
    assert signature("First 3 + 4 = 7 apples.\n#### 7") == signature("We add: 3+4 = 7\nSo #### 7")
    assert signature("3 + 4 = 7") != signature("4 + 3 = 7") != signature("3 + 4 = 7\n7 + 0 = 7")
    assert signature("By symmetry  the answer is SEVEN") == signature("by symmetry the answer is seven")
    assert signature("seven") != signature("eight")


@given(st.lists(st.lists(st.integers(0, 2), max_size=6), max_size=7), st.integers(1, 7))
def test_most_diverse_takes_k_different_ones(items: list[list[int]], k: int) -> None:
    taken = most_diverse(items, k)
    assert len(taken) == len(set(taken)) == min(k, len(items)) and set(taken) <= set(range(len(items)))


@given(st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=3, max_size=7))
def test_each_greedy_choice_is_the_best_one_left(items: list[list[int]]) -> None:
    taken = most_diverse(items, len(items) - 1)
    for n in range(1, len(taken)):
        gain = [sum(Levenshtein.distance(items[i], items[j]) for j in taken[:n]) for i in range(len(items))]
        left = [i for i in range(len(items)) if i not in taken[:n]]
        assert gain[taken[n]] == max(gain[i] for i in left)


def test_most_diverse_leaves_out_the_near_twin() -> None:
    items = ["aaaaaaaa", "aaaaaaab", "bbbbbbbb", "cccccccc"]
    best = set(most_diverse(items, 3))
    assert best in ({0, 2, 3}, {1, 2, 3})
    spread = {
        c: sum(Levenshtein.distance(items[i], items[j]) for i, j in combinations(c, 2))
        for c in combinations(range(4), 3)
    }
    assert spread[tuple(sorted(best))] == max(spread.values())
