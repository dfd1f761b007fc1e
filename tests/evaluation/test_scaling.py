"""The power law and its horizontal reading."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.evaluation.scaling import OutOfRange, Point, PowerLaw, fit, fit_law, multiplier

SIZES = [250.0, 500.0, 1000.0, 2000.0, 4000.0]


def point(size: float, error: float, problems: int = 2000, seed: int = 0) -> Point:
    """A policy wrong on exactly `error` of the problems, which ones by seed."""
    wrong = np.zeros(problems)
    wrong[: round(error * problems)] = 1
    return Point(size, np.random.default_rng(seed).permutation(wrong))


def curve(scale: float = 10.0, alpha: float = 0.5, problems: int = 2000) -> list[Point]:
    return [point(size, scale * size**-alpha, problems, seed=i) for i, size in enumerate(SIZES)]


@given(st.floats(0.1, 50), st.floats(0.01, 2))
def test_fit_finds_the_law(scale: float, alpha: float) -> None:
    law = fit_law(SIZES, [scale * size**-alpha for size in SIZES])
    assert law.scale == pytest.approx(scale, rel=1e-9)
    assert law.alpha == pytest.approx(alpha, rel=1e-9)
    assert (law.smallest, law.largest) == (250.0, 4000.0)


@given(st.floats(0.1, 50), st.floats(0.01, 2), st.floats(1, 1e6))
def test_size_inverts_error(scale: float, alpha: float, size: float) -> None:
    law = PowerLaw(scale, alpha, 1, 1e6)
    assert law.size(law.error(size)) == pytest.approx(size, rel=1e-6)


@given(st.lists(st.floats(0.01, 1), min_size=5, max_size=5), st.floats(0.01, 100))
def test_scaling_errors_scales_only_the_constant(errors: list[float], factor: float) -> None:
    one, two = fit_law(SIZES, errors), fit_law(SIZES, [e * factor for e in errors])
    assert two.alpha == pytest.approx(one.alpha, abs=1e-9)
    assert two.scale == pytest.approx(one.scale * factor, rel=1e-6)


@given(st.lists(st.floats(0.01, 1), min_size=5, max_size=5), st.permutations(range(5)))
def test_the_order_of_points_does_not_matter(errors: list[float], order: list[int]) -> None:
    one = fit_law(SIZES, errors)
    two = fit_law([SIZES[i] for i in order], [errors[i] for i in order])
    assert (two.scale, two.alpha) == pytest.approx((one.scale, one.alpha), abs=1e-9, rel=1e-6)


@given(st.lists(st.floats(0.01, 1), min_size=5, max_size=5), st.floats(-0.2, 0.2), st.floats(0.8, 1.25))
def test_no_other_line_is_closer_in_log_space(errors: list[float], tilt: float, shift: float) -> None:
    law = fit_law(SIZES, errors)
    other = PowerLaw(law.scale * shift, law.alpha + tilt, 0, 0)

    def loss(curve: PowerLaw) -> float:
        return sum((math.log(curve.error(s)) - math.log(e)) ** 2 for s, e in zip(SIZES, errors, strict=True))

    assert loss(law) <= loss(other) + 1e-12


@pytest.mark.parametrize(
    ("sizes", "errors", "message"),
    [
        ([100], [0.5], "two different sizes"),
        ([100, 100], [0.5, 0.4], "two different sizes"),
        ([100, 200], [0.5], "2 sizes and 1 errors"),
        ([100, 200], [0.5, 0.0], "error 0 at 200 problems"),
        ([100, 200], [0.5, float("nan")], "error nan at 200"),
        ([0, 200], [0.5, 0.4], "sizes must be above 0"),
        ([100, math.inf], [0.5, 0.4], "sizes must be above 0"),
    ],
)
def test_fit_refuses(sizes: list[float], errors: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_law(sizes, errors)


@pytest.mark.parametrize("alpha", [0.0, -0.3])
def test_a_curve_that_does_not_fall_has_no_inverse(alpha: float) -> None:
    with pytest.raises(OutOfRange, match="does not fall"):
        PowerLaw(0.5, alpha, 1, 10).size(0.4)


def test_error_zero_is_never_reached() -> None:
    with pytest.raises(OutOfRange, match="never reaches"):
        PowerLaw(0.5, 0.5, 1, 10).size(0.0)


def test_a_nearly_flat_curve_reads_as_infinity() -> None:
    assert PowerLaw(0.5, 1e-9, 1, 10).size(0.1) == math.inf


def test_fit_gives_intervals_around_the_law() -> None:
    fitted = fit(curve(), resamples=500)
    assert fitted.law.alpha == pytest.approx(0.5, abs=0.01)
    assert fitted.alpha[0] < 0.5 < fitted.alpha[1]
    assert fitted.scale[0] < 10 < fitted.scale[1]
    assert fitted.alpha[1] - fitted.alpha[0] < 0.15


def test_more_problems_narrow_the_fit() -> None:
    wide, narrow = (fit(curve(problems=n), resamples=400).alpha for n in (500, 8000))
    assert narrow[1] - narrow[0] < (wide[1] - wide[0]) / 2


def test_fit_bears_resamples_without_a_mistake() -> None:
    points = [point(100, 0.5, 40), point(1000, 0.025, 40, seed=1)]  # one mistake: often none in a resample
    fitted = fit(points, resamples=300)
    assert math.isfinite(fitted.alpha[1]) and fitted.alpha[1] > fitted.law.alpha


# -- the headline -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2.0, 4.0])
def test_multiplier_reads_the_curve_sideways(factor: float) -> None:
    result = multiplier(curve(), point(500, 10 * (500 * factor) ** -0.5, seed=9), resamples=600)
    assert result.value == pytest.approx(factor, rel=0.03)
    assert result.low < factor < result.high
    assert (result.least, result.most) == (0.5, 8)


def test_a_method_as_good_as_sft_saves_nothing() -> None:
    result = multiplier(curve(), point(1000, 10 * 1000**-0.5, seed=9), resamples=600)
    assert result.low < 1 < result.high and result.value == pytest.approx(1, abs=0.03)


def test_a_worse_method_needs_more() -> None:
    result = multiplier(curve(), point(2000, 10 * 1000**-0.5, seed=9), resamples=300)
    assert result.value == pytest.approx(0.5, rel=0.03) and result.high < 1


@pytest.mark.parametrize(("size", "needs"), [(1000, 8000), (1000, 1e12), (250, 8000)])
def test_beyond_the_largest_size_the_reading_is_that_size(size: float, needs: float) -> None:
    result = multiplier(curve(), point(size, 10 * needs**-0.5, seed=9), resamples=300)
    assert result.value == result.high == result.most == 4000 / size and result.outside > 0.9


def test_below_the_smallest_size_the_reading_is_that_size() -> None:
    result = multiplier(curve(), point(500, 10 * 150**-0.5, seed=9), resamples=300)
    assert result.value == result.low == result.high == result.least == 0.5


def test_no_error_at_all_is_beyond_the_largest_size() -> None:
    result = multiplier(curve(), point(500, 0.0), resamples=300)
    assert result.value == result.low == result.most == 8


def test_a_reading_at_the_edge_tells_how_often_it_falls_outside() -> None:
    result = multiplier(curve(), point(1000, 10 * 3900**-0.5, seed=9), resamples=400)
    assert result.low < result.value < result.most == result.high and 0.2 < result.outside < 0.8


def test_a_curve_that_may_not_fall_is_refused() -> None:
    flat = [point(100, 0.30, 60, seed=1), point(200, 0.28, 60, seed=2)]
    with pytest.raises(OutOfRange, match="falls in only"):
        multiplier(flat, point(100, 0.29, 60, seed=3), resamples=400)


def test_points_of_different_tests_are_refused() -> None:
    with pytest.raises(ValueError, match="same test problems"):
        multiplier(curve(), point(1000, 0.25, problems=500), resamples=50)


@given(st.floats(1.2, 6), st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_a_smaller_error_never_saves_less(factor: float, seed: int) -> None:
    points = curve()
    near, far = (
        multiplier(points, point(300, 10 * size**-0.5, seed=seed), resamples=100) for size in (300, 300 * factor)
    )
    assert far.value > near.value


def test_shared_mistakes_narrow_the_interval() -> None:
    """The bootstrap is paired: a method wrong where SFT is wrong is read more exactly than one wrong elsewhere."""
    hard = np.random.default_rng(5).permutation(2000)

    def nested(size: float, error: float) -> Point:
        wrong = np.zeros(2000)
        wrong[hard[: round(error * 2000)]] = 1
        return Point(size, wrong)

    points = [nested(size, 10 * size**-0.5) for size in SIZES]
    shared = multiplier(points, nested(500, 10 * 1000**-0.5), resamples=400)
    apart = multiplier(points, point(500, 10 * 1000**-0.5, seed=7), resamples=400)
    assert shared.high - shared.low < apart.high - apart.low
