"""Limits, held-out validation, and no evaluation problem among the training ones."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UserError
from app.problems.settings import FileSource, ProblemsSettings
from app.problems.splits import check_disjoint, choose
from app.problems.stage import load
from app.records import Problem

FILES = FileSource(kind="file", train="a", test="b")


def problem(index: int, split: str) -> Problem:
    return Problem(f"p{index}", f"What is {index} plus one?", str(index + 1), split, "file")


def pool(train: int = 30, test: int = 10) -> list[Problem]:
    return [problem(i, "train") for i in range(train)] + [problem(1000 + i, "test") for i in range(test)]


@given(st.randoms(use_true_random=False), st.integers(1, 20), st.integers(1, 9))
def test_the_choice_does_not_depend_on_the_order_of_a_file(rng: random.Random, train: int, validation: int) -> None:
    settings = ProblemsSettings(source=FILES, train=train, validation=validation, test=5)
    shuffled = pool()
    rng.shuffle(shuffled)
    assert choose(pool(), settings, seed=3) == choose(shuffled, settings, seed=3)


def test_counts_and_held_out_validation() -> None:
    chosen = choose(pool(), ProblemsSettings(source=FILES, train=20, validation=5, test=4), seed=0)
    assert [sum(p.split == s for p in chosen) for s in ("train", "validation", "test")] == [20, 5, 4]
    assert len({p.id for p in chosen}) == 29


def test_another_seed_chooses_others() -> None:
    settings = ProblemsSettings(source=FILES, train=10, test=4)
    assert {p.id for p in choose(pool(), settings, 0)} != {p.id for p in choose(pool(), settings, 1)}


def test_too_few_is_an_error() -> None:
    with pytest.raises(UserError, match="problems.test: 50 asked for, the source has 10"):
        choose(pool(), ProblemsSettings(source=FILES, test=50), 0)
    with pytest.raises(UserError, match="only 30 training problems to hold out from"):
        choose(pool(), ProblemsSettings(source=FILES, validation=30), 0)


def test_a_test_statement_in_training_is_an_error_whatever_its_case_and_spacing() -> None:
    copy = Problem("other", "what is  1003 PLUS one", "1004", "train", "mine.jsonl")
    with pytest.raises(UserError, match=r"training problem other \(mine.jsonl\) repeats test problem p1003"):
        check_disjoint([*pool(), copy])


def test_one_id_in_two_splits_is_an_error() -> None:
    with pytest.raises(UserError, match="'p1' occurs in two splits"):
        check_disjoint([*pool(), Problem("p1", "Something else?", "1", "test", "x")])


def test_a_test_seed_keeps_the_test_while_other_splits_follow_the_seed() -> None:
    settings = ProblemsSettings(source=FILES, train=10, test=4, test_seed=7)
    one, other = (choose(pool(), settings, seed) for seed in (0, 1))
    assert {p.id for p in one if p.split == "test"} == {p.id for p in other if p.split == "test"}
    assert {p.id for p in one if p.split == "train"} != {p.id for p in other if p.split == "train"}
    assert choose(pool(), settings, 7) == choose(pool(), ProblemsSettings(source=FILES, train=10, test=4), 7)


def test_the_world_has_a_test_seed_too() -> None:
    settings = ProblemsSettings(train=5, validation=2, test=5, test_seed=7)
    one, other = ({p.id: p.split for p in load(settings, seed)[0]} for seed in (0, 1))
    shared = one.keys() & other.keys()
    assert {one[name] for name in shared} == {"test"} and len(shared) == 5
