"""Warnings: each raised where it should be, and silent on a run without the fault."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest

from app.training import diagnostics
from app.training.dataset import load
from app.training.diagnostics import WINDOW, Watch, counts, falling_chosen, length_drift, of_data
from tests.training.conftest import pair, rows_of, tokens, write_rows


def row(step: int, gain: float, length: float = 10.0) -> dict[str, Any]:
    return {"step": step, "gain_chosen": gain, "length_chosen": length}


def corpus_of(tmp_path: Path, rows: list[Any], method: str = "dpo") -> Any:
    return load(write_rows(tmp_path, method, rows), 64)


def test_a_falling_chosen_branch_is_told_once_and_counted_each_step() -> None:
    rows = [row(i + 1, -0.1 * i) for i in range(60)]  # a nat a step, ten tokens: -0.1 a token is reached at gain -1
    steps = falling_chosen(rows)
    assert steps == list(range(21, 61))  # the mean of steps 2 to 21 is -1.05, of 1 to 20 -0.95
    watch = Watch()
    said = [text for r in rows if (text := watch.step(r))]
    assert len(said) == 1 and "step 21: chosen branches have become less likely" in said[0]
    assert counts(rows, [], []) == {"alarm_falling_chosen": 40.0}


def test_a_long_branch_may_lose_more() -> None:
    assert falling_chosen([row(i, -3.0, length=100.0) for i in range(WINDOW)]) == []
    assert falling_chosen([row(i, -3.0, length=10.0) for i in range(WINDOW)]) == [WINDOW - 1]


def test_a_run_that_raises_the_chosen_is_quiet() -> None:
    rows = [row(i, 0.5) for i in range(50)]
    assert counts(rows, [], []) == {} and all(Watch().step(r) is None for r in rows)


def test_runs_without_pairs_have_no_chosen_branch() -> None:
    rows = [{"step": i, "loss": 1.0} for i in range(40)]
    watch = Watch()
    assert counts(rows, [], []) == {} and all(watch.step(r) is None for r in rows)


@pytest.mark.parametrize(("lengths", "steps"), [([40, 45, 50], []), ([40, 61], [2]), ([40, 26, 41], [2]), ([], [])])
def test_answers_that_grow_or_shrink(lengths: list[float], steps: list[int]) -> None:
    rows = [{"step": i + 1, "answer_tokens": n} for i, n in enumerate(lengths)]
    assert length_drift(rows) == steps
    assert counts([], rows, []) == ({"alarm_length_drift": float(len(steps))} if steps else {})
    watch = Watch()
    said = [text for end in range(1, len(rows) + 1) if (text := watch.evaluation(rows[:end]))]
    assert len(said) == len(steps)


def test_ordinary_pairs_raise_nothing(tmp_path: Path) -> None:
    assert of_data(corpus_of(tmp_path, rows_of("dpo", 40))) == {}
    assert of_data(corpus_of(tmp_path, rows_of("sft", 40), "sft")) == {}


def test_lengths_that_tell_the_label(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [pair(i, rng, chosen_token_ids=tokens(rng, 20, 20), rejected_token_ids=tokens(rng, 5, 5)) for i in range(9)]
    assert of_data(corpus_of(tmp_path, rows)) == {
        "uneven_lengths": "chosen branches have 20.0 tokens on average, rejected ones 5.0"
    }


def test_one_prefix_for_many_pairs(tmp_path: Path) -> None:
    rng = random.Random(0)
    many = [pair(i, rng, prompt_token_ids=[5, 6, 7]) for i in range(40)]
    assert list(of_data(corpus_of(tmp_path / "a", many))) == ["repeated_prefixes"]
    few = [pair(i, rng, prompt_token_ids=[5, 6, i % 10 + 7]) for i in range(40)]
    assert of_data(corpus_of(tmp_path / "b", few)) == {}


def test_rows_that_occur_twice(tmp_path: Path) -> None:
    rows = rows_of("dpo", 20)
    rows.append(dataclasses.replace(rows[0], id="again"))
    found = of_data(corpus_of(tmp_path, rows))
    assert found == {"duplicate_rows": "1 of 21 rows have exactly the tokens of another one"}
    assert diagnostics.counts([], [], found) == {"alarm_duplicate_rows": 1.0}
