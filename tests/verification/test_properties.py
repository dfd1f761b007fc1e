"""Algebra that any grader must respect, over generated answers."""

from __future__ import annotations

import random
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from app.records import OUTCOMES
from app.verification import equivalent, judge
from app.verification.compare import compare

integers = st.integers(-(10**30), 10**30)
fractions = st.fractions(max_denominator=10**6)
small = st.integers(-50, 50)
SOUND = set(OUTCOMES) - {"error"}  # an error would be a defect of ours
FAST = settings(max_examples=60, deadline=None)


def latex(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value)
    return f"{'-' if value < 0 else ''}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def polynomial(coefficients: list[int], name: str = "x") -> str:
    terms = [f"{c:+d}{name}^{{{i}}}" for i, c in enumerate(coefficients)]
    return "".join(reversed(terms)).lstrip("+")


@FAST
@given(integers)
def test_spellings_of_an_integer(n: int) -> None:
    for text in (
        str(n),
        f"{n:,}",
        f"${n}$",
        f"\\boxed{{{n}}}",
        f"x={n}",
        f"{n}.0",
        f"\\text{{{n}}}",
        f"{n}\\text{{ cm}}",
    ):
        assert equivalent(str(n), text), text


@FAST
@given(integers, integers.filter(bool))
def test_a_perturbed_integer_is_rejected(n: int, by: int) -> None:
    assert not equivalent(str(n), str(n + by))
    assert not equivalent(str(n), f"\\frac{{{2 * (n + by)}}}{{2}}")


@FAST
@given(fractions, fractions)
def test_fractions_are_equal_exactly_when_they_are(a: Fraction, b: Fraction) -> None:
    assert equivalent(latex(a), latex(b)) == (a == b)
    assert equivalent(latex(a), f"{a.numerator * 6}/{a.denominator * 6}")
    assert not equivalent(latex(a), latex(a + Fraction(1, 10**9)))


@FAST
@given(st.integers(1, 10**6), st.integers(0, 6))
def test_a_decimal_reference_asks_for_its_own_precision(units: int, places: int) -> None:
    text = f"{units / 10**places:.{places}f}"
    assert equivalent(text, text + "0" if "." in text else text)
    step = Fraction(6, 10 ** (places + 1))  # more than half a unit of the last place
    assert not equivalent(text, latex(Fraction(text) + step))
    assert not equivalent(text, latex(Fraction(text) - step))


@FAST
@given(st.lists(small, min_size=2, max_size=6, unique=True), st.randoms(use_true_random=False))
def test_order_counts_in_tuples_and_not_in_sets(items: list[int], rng: random.Random) -> None:
    shuffled = items[:]
    rng.shuffle(shuffled)
    write = ",".join
    a, b = write(map(str, items)), write(map(str, shuffled))
    assert equivalent(f"\\{{{a}\\}}", f"\\{{{b}\\}}")
    assert equivalent(a, b)
    assert equivalent(f"({a})", f"({b})") == (items == shuffled)


@FAST
@given(st.lists(small, min_size=1, max_size=5), st.lists(small, min_size=1, max_size=5))
def test_products_of_polynomials(a: list[int], b: list[int]) -> None:
    product = [sum(a[j] * b[i - j] for j in range(len(a)) if 0 <= i - j < len(b)) for i in range(len(a) + len(b) - 1)]
    factored = f"({polynomial(a)})({polynomial(b)})"
    assert equivalent(polynomial(product), factored)
    assert equivalent(factored, polynomial(product))
    product[0] += 1
    assert not equivalent(polynomial(product), factored)


@FAST
@given(small.filter(bool), small, small)
def test_equations_may_be_scaled_and_moved(k: int, a: int, b: int) -> None:
    assert equivalent(f"y={a}x+{b}".replace("+-", "-"), f"{k}y-{k * a}x={k * b}".replace("--", "+"))
    assert not equivalent(f"y={a}x+{b}".replace("+-", "-"), f"{k}y-{k * a}x={k * (b + 1)}".replace("--", "+"))


@FAST
@given(small, small)
def test_intervals_and_inequalities(a: int, b: int) -> None:
    low, high = min(a, b), max(a, b) + 1
    for text, other in ((f"({low},{high}]", f"{low}<x\\le{high}"), (f"[{low},{high}]", f"{low}\\le x\\le {high}")):
        assert equivalent(text, other)
        assert equivalent(other, text)
        assert not equivalent(text, f"{low}<x<{high}")
        assert not equivalent(text, other.replace("x", "x+1"))


@FAST
@given(st.integers(2, 10**6), st.integers(2, 10**6))
def test_square_roots(a: int, b: int) -> None:
    assert equivalent(f"\\sqrt{{{a * b * b}}}", f"{b}\\sqrt{{{a}}}")
    assert not equivalent(f"\\sqrt{{{a * b * b + 1}}}", f"{b}\\sqrt{{{a}}}")


@FAST
@given(st.integers(-60, 60), st.integers(-60, 60))
def test_powers_of_ten_are_told_apart(a: int, b: int) -> None:
    assert equivalent(f"10^{{{a}}}", f"1\\times10^{{{b}}}") == (a == b)
    assert equivalent(f"1e{a}", f"1e{b}") == (a == b)


@FAST
@given(st.text(max_size=200))
def test_any_text_gets_a_verdict(text: str) -> None:
    assert judge("42", text).outcome in SOUND
    assert compare(text, text).tier
    assert judge("\\frac{1}{2}", f"\\boxed{{{text}}}").outcome in SOUND


TOKENS = st.sampled_from(
    [
        "\\frac",
        "\\sqrt",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "^",
        "_",
        "+",
        "-",
        "*",
        "/",
        "=",
        "<",
        ">",
        ",",
        ";",
        ":",
        "|",
        "!",
        "%",
        "1",
        "2",
        "10",
        "0",
        "x",
        "y",
        "n",
        "e",
        "i",
        "\\pi",
        "\\infty",
        "\\sin",
        "\\log",
        "\\ln",
        "\\text{cm}",
        "\\cup",
        "\\in",
        "\\mathbb{R}",
        "\\begin{pmatrix}",
        "\\end{pmatrix}",
        "&",
        "\\\\",
        "\\pm",
        "\\binom",
        "\\sum",
        "\\int",
        "dx",
        "\\lim",
        "\\to",
        "\\{",
        "\\}",
        "\\le",
        "\\circ",
        ".",
        "3.5",
        "and",
        "or",
        "cm",
        "apples",
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(TOKENS, max_size=25), st.lists(TOKENS, max_size=12))
def test_any_tokens_get_an_answer(left: list[str], right: list[str]) -> None:
    a, b = " ".join(left), "".join(right)
    assert compare(a, b).same in (True, False)
    assert compare("42", a).tier
    assert judge("x+1", f"The answer is ${a}$").outcome in SOUND
