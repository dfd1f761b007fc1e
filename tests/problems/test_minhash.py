"""MinHash: its table against a dict, its probabilities against the formula, its index against exact similarities."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.problems.filtering import Filter, index_of
from app.problems.minhash import FULL, HashTable, MinHashIndex
from app.problems.overlap import NearIndex
from app.problems.settings import MinHashSettings, SynthesisSettings
from app.records import Problem

KEYS = st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=20, unique=True), max_size=30)


@given(KEYS, st.integers(0, 40))
def test_the_table_is_a_dict_that_keeps_what_came_first(batches: list[list[int]], crowd: int) -> None:
    table, known = HashTable(slots=16), dict[int, int]()
    for number, keys in enumerate(batches, start=1):
        crowded = [key << crowd for key in keys]  # keys whose low bits are alike want the same slots
        table.add(np.array(crowded, np.uint64), number)
        for key in crowded:
            known.setdefault(key, number)
    asked = [key << crowd for key in range(1, 301)]
    assert table.get(np.array(asked, np.uint64)).tolist() == [known.get(key, 0) for key in asked]
    assert table.taken == len(known) <= FULL * len(table.keys) or not known


def texts(similarity: float, rng: random.Random) -> tuple[str, str]:
    """Two texts of one-word n-grams with a Jaccard similarity."""
    shared = round(200 * similarity)
    pool = rng.sample(range(10**9), 400 - shared)
    own = (200 - shared) // 2
    first, second = pool[: shared + own], pool[:shared] + pool[shared + own : shared + 2 * own]
    return " ".join(map(str, first)), " ".join(map(str, second))


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.8, 0.9])
def test_pairs_are_found_with_the_probability_that_is_told(similarity: float) -> None:
    rng, asked = random.Random(0), MinHashSettings(words=1)
    found, pairs = 0, 400
    for _ in range(pairs):
        first, second = texts(similarity, rng)
        index = MinHashIndex(asked)
        index.add(first, "a")
        found += index.match(second) == ("near", "a")
    expected = 1 - (1 - similarity**asked.rows) ** asked.bands
    assert found / pairs == pytest.approx(expected, abs=0.08)  # three standard errors and more


def test_exact_before_near_and_the_first_label() -> None:
    index = MinHashIndex(MinHashSettings())
    text = " ".join(f"word{n}" for n in range(60))
    index.add(text, "seed")
    index.add(text + " more", "synthetic")
    assert index.match(text.upper() + "!") == ("exact", "seed")
    assert index.match(text + " less") == ("near", "seed")
    assert index.match("How many?") is None
    index.add("How many?", "synthetic")
    assert index.match("how MANY") == ("exact", "synthetic")


def test_memory_of_a_statement_is_bounded_and_nothing_unlike_is_found() -> None:
    rng, index = random.Random(0), MinHashIndex(MinHashSettings())
    for _ in range(3000):
        text = " ".join(map(str, rng.choices(range(1000), k=40)))
        assert index.match(text) is None
        index.add(text, "synthetic")
    assert 15 * 9 <= index.memory / 3000 <= 15 * 9 * 2 / FULL


def test_a_recipe_chooses_the_index() -> None:
    assert isinstance(index_of(SynthesisSettings(count=1)), NearIndex)
    asked = SynthesisSettings.model_validate({"count": 1, "minhash": {"bands": 20}})
    made = Filter([Problem("s", "one two three four five six", "1", "train", "x")], index_of(asked))
    assert isinstance(made.index, MinHashIndex) and made.index.settings.bands == 20
    assert made.refusal(Problem("c", "One, two three four five six?", "1", "train", "x")) == "exact duplicate of seed"
