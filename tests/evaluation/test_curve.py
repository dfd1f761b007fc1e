"""Curves of several methods over the number of training problems."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UserError
from app.evaluation.curve import Asked, Errors, curve, differences, error_of, points

PROBLEMS = 4000


def greedy(error: float, problems: int = PROBLEMS, draw: int = 0) -> dict[Asked, float | None]:
    """Errors with exactly this share of errors, which ones by `draw`."""
    wrong = set(random.Random(draw).sample(range(problems), round(error * problems)))
    return {(0, f"p{n}"): float(n in wrong) for n in range(problems)}


def law(size: float) -> float:
    return 8 * size**-0.5


def measured() -> dict[str, dict[int, Errors]]:
    """RFT at D problems is as good as SFT at 4 D, and DPO as SFT at 64 D."""
    sizes = (250, 500, 1000, 2000, 4000)
    found: dict[str, dict[int, Errors]] = {"sft": {s: greedy(law(s), draw=s) for s in sizes}}
    found["rft"] = {s: greedy(law(4 * s), draw=s + 1) for s in (250, 500, 1000)}
    found["dpo"] = {1000: greedy(law(64000), draw=7)}
    return found


def test_reads_how_much_data_a_method_saved() -> None:
    found = curve(measured(), "sft")
    for point in found["methods"]["rft"]["points"]:
        assert point["saved"]["value"] == pytest.approx(4, rel=0.1)
        assert point["saved"]["low"] < 4 <= point["saved"]["high"]  # at 1000 the very end of SFT's sizes
    [far] = found["methods"]["dpo"]["points"]
    assert far["saved"]["low"] == far["saved"]["value"] == far["saved"]["most"] == 4


def test_fits_a_law_where_a_method_has_two_sizes() -> None:
    found = curve(measured(), "sft")["methods"]
    assert found["sft"]["fit"]["alpha"] == pytest.approx(0.5, abs=0.02)
    assert found["sft"]["fit"]["alpha_interval"][0] < 0.5 < found["sft"]["fit"]["alpha_interval"][1]
    assert (found["sft"]["fit"]["smallest"], found["sft"]["fit"]["largest"]) == (250, 4000)
    assert found["dpo"]["fit"] is None


def test_baseline_saves_nothing_against_itself() -> None:
    assert all(point["saved"] is None for point in curve(measured(), "sft")["methods"]["sft"]["points"])


def test_one_size_of_the_baseline_gives_no_reading_and_says_why() -> None:
    found = curve({"sft": {500: greedy(0.4)}, "rft": {500: greedy(0.3)}}, "sft")
    [point] = found["methods"]["rft"]["points"]
    assert point["saved"] == {"value": None, "reason": "sft was trained at fewer than two sizes"}
    assert point["error"] == pytest.approx(0.3)


def test_a_curve_that_does_not_fall_gives_no_reading() -> None:
    found = curve({"sft": {100: greedy(0.3), 1000: greedy(0.4, draw=1)}, "rft": {100: greedy(0.2, draw=2)}}, "sft")
    [point] = found["methods"]["rft"]["points"]
    assert point["saved"]["value"] is None and "does not fall" in point["saved"]["reason"]


def test_a_method_without_errors_has_no_fit() -> None:
    found = curve({"sft": {100: greedy(0.3), 1000: greedy(0.1)}, "rft": {100: greedy(0.2), 1000: greedy(0.0)}}, "sft")
    assert found["methods"]["rft"]["fit"] is None
    assert found["methods"]["rft"]["points"][1]["saved"]["value"] == 1  # the most that SFT's sizes can tell


def test_problems_undecided_anywhere_are_left_out_everywhere() -> None:
    one, two = greedy(0.5, 10), greedy(0.2, 10, draw=3)
    one[(0, "p3")] = two[(0, "p4")] = None
    found, undecided = points({"sft": {10: one, 20: two}})
    assert undecided == 2
    assert [len(point.errors) for point in found["sft"]] == [8, 8]


def test_the_error_of_an_outcome() -> None:
    said = ("correct", "incorrect", "unparsed", "timeout", "error")
    assert [error_of(outcome) for outcome in said] == [0.0, 1.0, 1.0, None, None]


def test_points_may_have_other_seeds_on_the_same_problems() -> None:
    three, one = under(3, greedy(0.5, 10)), greedy(0.2, 10)
    found = curve({"sft": {10: three, 20: one}}, "sft")["methods"]["sft"]["points"]
    assert [list(point["seeds"]) for point in found] == [["0", "1", "2"], ["0"]]
    assert [point["error"] for point in found] == pytest.approx([0.5, 0.2])


def test_shares_of_draws_are_errors_too() -> None:
    found, _ = points({"sft": {10: {(0, "a"): 0.25, (0, "b"): 0.75}}})
    assert found["sft"][0].error == 0.5


def test_different_problems_cannot_be_compared() -> None:
    said = r"rft at 20 was tested on other problems than sft at 10 \(1 only there, 2 only here\)"
    other = {key: error for key, error in greedy(0.5, 11).items() if key[1] not in ("p0", "p1")}
    with pytest.raises(UserError, match=said):
        points({"sft": {10: greedy(0.5, 10)}, "rft": {20: other}})


def test_nothing_decided_is_an_error() -> None:
    with pytest.raises(UserError, match="not one test problem was decided"):
        points({"sft": {10: {(0, "a"): None}}})


def under(seeds: int, one: Errors) -> dict[Asked, float | None]:
    """The same answers under several seeds."""
    return {(seed, problem): error for seed in range(seeds) for (_, problem), error in one.items()}


@pytest.mark.parametrize("seeds", [2, 5])
def test_the_same_answers_under_more_seeds_narrow_nothing(seeds: int) -> None:
    plain: dict[str, dict[int, Errors]] = {
        "sft": {100: greedy(0.5, 200), 400: greedy(0.25, 200, 1)},
        "rft": {100: greedy(0.35, 200, 2)},
    }
    several: dict[str, dict[int, Errors]] = {
        method: {size: under(seeds, one) for size, one in sizes.items()} for method, sizes in plain.items()
    }
    once, often = curve(plain, "sft"), curve(several, "sft")
    assert often["problems"] == once["problems"] == 200
    for method, series in once["methods"].items():
        assert series["fit"] == often["methods"][method]["fit"]
        for one, many in zip(series["points"], often["methods"][method]["points"], strict=True):
            assert {**many, "seeds": None} == {**one, "seeds": None}
            assert many["seeds"] == {str(seed): one["error"] for seed in range(seeds)}


def test_seeds_that_differ_are_averaged_over_a_problem_and_told_apart() -> None:
    outcomes: Errors = {(0, "a"): 0.0, (0, "b"): 1.0, (1, "a"): 1.0, (1, "b"): 1.0}
    other: Errors = dict.fromkeys(outcomes, 1.0)
    found, _ = points({"sft": {10: outcomes, 20: other}})
    assert found["sft"][0].errors.tolist() == [0.5, 1.0]
    [first, _] = curve({"sft": {10: outcomes, 20: other}}, "sft")["methods"]["sft"]["points"]
    assert first["seeds"] == {"0": 0.5, "1": 1.0}
    assert (first["error"], first["low"], first["high"]) == (0.75, 0.5, 1.0)


def test_a_problem_undecided_under_one_seed_counts_by_the_others() -> None:
    outcomes: Errors = {(0, "a"): None, (1, "a"): 1.0, (0, "b"): 0.0, (1, "b"): 0.0}
    found, undecided = points({"sft": {10: outcomes}})
    assert undecided == 1 and found["sft"][0].errors.tolist() == [1.0, 0.0]


def test_differences_are_paired_by_problem_and_told_by_seed() -> None:
    """SFT is wrong on 40 of 100 problems, RFT on the first 10 of those, under the second seed on 20."""
    sft: dict[Asked, float | None] = {(seed, f"p{n:02d}"): float(n < 40) for seed in (0, 1) for n in range(100)}
    rft: dict[Asked, float | None] = {(s, f"p{n:02d}"): float(n < 10 * (s + 1)) for s in (0, 1) for n in range(100)}
    [found] = differences({"sft": {10: sft, 20: sft}, "rft": {10: rft}})
    assert (found["size"], found["method"], found["other"]) == (10, "rft", "sft")
    assert found["difference"] == pytest.approx(-0.25) and found["low"] < -0.25 < found["high"] < -0.15
    assert found["seeds"] == pytest.approx({"0": -0.3, "1": -0.2})


def test_equal_answers_differ_by_nothing_for_certain() -> None:
    [found] = differences({"sft": {10: greedy(0.3, 50)}, "rft": {10: greedy(0.3, 50)}})
    assert (found["difference"], found["low"], found["high"]) == (0, 0, 0)


@given(st.permutations([250, 500, 1000]))
def test_sizes_come_in_order_whatever_order_they_were_run_in(order: list[int]) -> None:
    found = curve({"sft": {size: greedy(law(size), 200, size) for size in order}}, "sft")
    assert [point["size"] for point in found["methods"]["sft"]["points"]] == [250, 500, 1000]


def test_is_plain_json() -> None:
    json.dumps(curve(measured(), "sft"), allow_nan=False)
