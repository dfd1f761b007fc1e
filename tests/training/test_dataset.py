"""What a data set becomes in memory, and which rows are left out."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from app.errors import UserError
from app.training.dataset import check_vocabulary, load
from app.training.settings import PreferenceSettings
from tests.training.conftest import example, pair, rows_of, write_rows


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    rows = rows_of("dpo", 5)
    dataset = load(write_rows(tmp_path, "dpo", rows), 100)
    for i, row in enumerate(rows):
        assert dataset.prompts[i].tolist() == row.prompt_token_ids
        assert [branch[i].tolist() for branch in dataset.branches] == [row.chosen_token_ids, row.rejected_token_ids]
        total = len(row.prompt_token_ids) + len(row.chosen_token_ids) + len(row.rejected_token_ids)
        assert dataset.lengths[i] == total
    assert dataset.skipped == {}


def test_rows_that_teach_nothing_are_counted_by_reason(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [
        pair(0, rng),
        pair(1, rng, chosen_token_ids=[5, 6], rejected_token_ids=[5, 6]),
        pair(2, rng, prompt_token_ids=list(range(3, 60))),
        pair(3, rng, rejected_token_ids=[]),
        pair(4, rng, weight=0.0),
        pair(5, rng, weight=float("nan")),
        pair(6, rng, chosen_token_ids=[], rejected_token_ids=[]),  # empty and equal: counted once
    ]
    dataset = load(write_rows(tmp_path, "dpo", rows), 40)
    assert dataset.ids == ["e0"]
    assert dataset.skipped == {"empty": 2, "too_long": 1, "equal_branches": 1, "no_weight": 2}


def test_the_longest_branch_decides_and_the_limit_itself_fits(tmp_path: Path) -> None:
    rng = random.Random(0)
    fits = pair(0, rng, prompt_token_ids=[3] * 4, chosen_token_ids=[4, 1], rejected_token_ids=[5] * 6)
    dataset = load(write_rows(tmp_path / "a", "dpo", [fits]), 10)
    assert len(dataset) == 1
    with pytest.raises(UserError, match=r"none of the 1 rows \(1 too_long\)"):
        load(write_rows(tmp_path / "b", "dpo", [fits]), 9)


def test_an_empty_data_set_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data set is empty, so there is nothing to learn from"):
        load(write_rows(tmp_path, "sft", []), 100)


def test_a_token_outside_the_vocabulary_names_its_row(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [example(0, rng), example(1, rng, completion_token_ids=[4, 99, 1]), example(2, rng)]
    dataset = load(write_rows(tmp_path, "sft", rows), 100)
    check_vocabulary(dataset, 100, "the model")
    with pytest.raises(UserError, match=r"row e1 \(branch 0\) has token id 99.*the model knows only 64"):
        check_vocabulary(dataset, 64, "the model")


def test_sharing_saves_the_prompt_once_a_pair(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [pair(0, rng, prompt_token_ids=[3] * 10, chosen_token_ids=[4, 5, 1], rejected_token_ids=[6, 7, 1])]
    dataset = load(write_rows(tmp_path, "dpo", rows), 100)
    shared, alone = dataset.rows([0]), dataset.rows([0], share=False, budget=0)
    assert (shared.computed, alone.computed) == (16, 26)
    assert (shared.sequences, alone.sequences) == (2, 2)
    assert shared.owners.tolist() == alone.owners.tolist() == [0, 0, 0, 1, 1, 1]
    assert alone.ends is None


def test_pairs_of_one_problem_share_its_trunk(tmp_path: Path) -> None:
    rng = random.Random(0)
    same = {"problem_id": "p", "prompt_token_ids": [3] * 10}
    rows = [
        pair(0, rng, **same, chosen_token_ids=[4, 5, 1], rejected_token_ids=[6, 7, 1]),
        pair(1, rng, prompt_token_ids=[9, 8], chosen_token_ids=[4, 1], rejected_token_ids=[5, 1]),
        pair(2, rng, **same, chosen_token_ids=[4, 5, 1], rejected_token_ids=[4, 7, 1]),
    ]
    dataset = load(write_rows(tmp_path, "dpo", rows), 100)
    together = dataset.rows([0, 1, 2])
    assert together.tokens.shape == (1, (10 + 3 + 3 + 2) + (2 + 2 + 2))  # trunk, 451, 671, and 71 below the shared 4
    assert sorted(together.owners.tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4, 4, 5, 5, 5]


def listwise(**values: object) -> PreferenceSettings:
    return PreferenceSettings.model_validate({"epochs": 1, **values})


def test_pairs_with_one_chosen_branch_become_a_list(tmp_path: Path) -> None:
    rng = random.Random(0)
    same = {"problem_id": "p", "prompt_token_ids": [3, 4], "chosen_token_ids": [5, 1]}
    rows = [
        pair(0, rng, **same, rejected_token_ids=[6, 6, 1], weight=1.0),
        pair(1, rng),
        pair(2, rng, **same, rejected_token_ids=[7, 1], weight=3.0),
        pair(3, rng, **same, rejected_token_ids=[6, 6, 1], weight=2.0),  # the same branch again
        pair(4, rng, **{**same, "chosen_token_ids": [8, 1]}, rejected_token_ids=[6, 6, 1]),
    ]
    dataset = load(write_rows(tmp_path, "dpo", rows), 100, listwise(loss="listwise"))
    assert dataset.ids == ["e0", "e1", "e4"]
    assert [[branch[0].tolist() for branch in dataset.branches]] == [[[5, 1], [6, 6, 1], [7, 1]]]
    assert dataset.branches[2][1].tolist() == []
    assert dataset.weights.tolist() == [2.0, 1.0, 1.0]
    assert dataset.completion_lengths([0, 2]).tolist() == [[2, 3, 2], [2, 3, 0]]
    assert dataset.problems[0] == dataset.problems[2] != dataset.problems[1]
    batch = dataset.rows([1, 2])
    assert batch.sequences == 6
    assert set(batch.owners.tolist()) == {0, 1, 3, 4}


def test_weights_by_rollout_counts(tmp_path: Path) -> None:
    rng = random.Random(0)
    sure = {"correct_before": 8, "judged_before": 8, "correct_after": 0, "judged_after": 8}
    rows = [
        pair(0, rng, weight=2.0),
        pair(1, rng, weight=2.0, **sure),
        pair(2, rng, **{**sure, "correct_after": 8}),  # nothing was lost: left out
    ]
    data = write_rows(tmp_path, "dpo", rows)
    given, by_counts = load(data, 100), load(data, 100, listwise(weights="certainty"))
    assert given.weights.tolist() == [2.0, 2.0, 1.0]
    assert by_counts.ids == ["e0", "e1"]
    assert by_counts.skipped == {"no_weight": 1}
    assert by_counts.weights[0] == 2.0
    assert 1.99 < by_counts.weights[1] < 2.0
