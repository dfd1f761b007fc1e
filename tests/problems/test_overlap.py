"""Near duplicates: the index agrees with comparing all pairs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.problems.overlap import NearIndex, grams, jaccard, statement_digest, words

TEXT = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "1", "2"]), min_size=1, max_size=12).map(" ".join)


@given(st.lists(TEXT, min_size=1, max_size=12), TEXT, st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_the_index_finds_what_comparing_all_pairs_finds(seen: list[str], text: str, threshold: float) -> None:
    index = NearIndex(threshold)
    for number, other in enumerate(seen):
        index.add(other, str(number))
    expected = any(words(other) == words(text) or jaccard(grams(other), grams(text)) >= threshold for other in seen)
    assert (index.match(text) is not None) == expected


@given(TEXT)
def test_a_statement_matches_itself_exactly(text: str) -> None:
    index = NearIndex(0.8)
    index.add(text.upper() + " !", "label")
    assert index.match(text) == ("exact", "label")


def test_one_changed_number_in_a_long_statement_is_near() -> None:
    base = "Maya has twelve apples and then she buys seven more apples at the big market on Monday before she eats two"
    index = NearIndex(0.6)
    index.add(base, "a")
    assert index.match(base.replace("seven", "nine")) == ("near", "a")
    assert index.match("A train leaves the station at noon and arrives at three.") is None


def test_digest_ignores_case_and_punctuation_only() -> None:
    assert statement_digest("How many, then?") == statement_digest("how MANY then")
    assert statement_digest("1.5 apples") != statement_digest("15 apples")


@pytest.mark.parametrize("threshold", [0, -1, 1.1])
def test_thresholds_outside_the_unit_interval(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        NearIndex(threshold)
