"""Whether two expressions have the same value: exactly, then at points, then by the symbolic tier."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from app.verification.canonical import as_rational, exact
from app.verification.limits import MAX_SYMBOLS, TooCostly, Undefined
from app.verification.numbers import Number, agrees
from app.verification.probe import (
    PRIMES,
    Evaluator,
    NeedsSymbolic,
    digits_for,
    is_rational_function,
    modular,
    point,
    whole_point,
)
from app.verification.residues import comparable, folded, same_residues
from app.verification.sandbox import serialise, shared
from app.verification.tree import Node, symbols, walk
from app.verification.unevaluated import has_primitive, matched

_POINTS = 14  # real points tried
_ENOUGH = 4  # points that must agree


class Tally:
    """Which tier decided last: exact, modular, numeric or symbolic. One for each comparison."""

    def __init__(self) -> None:
        self.tier = "exact"

    def used(self, tier: str) -> None:
        if _RANK[tier] > _RANK[self.tier]:
            self.tier = tier


_RANK = {"exact": 0, "modular": 1, "numeric": 2, "symbolic": 3}


def precision(node: Node) -> Number | None:
    """The reference as a decimal with the precision of its own digits: `3.14`, `-2.50`, `1.23 \\times 10^5`."""
    if node.kind == "num":
        return node.value if node.value.ulp is not None else None
    if node.kind == "neg":
        inner = precision(node.args[0])
        return None if inner is None else _scaled(inner, Fraction(-1))
    if node.kind == "mul":
        inner = precision(node.args[0])
        scale = (
            None
            if inner is None
            else exact(Node("mul", node.args[1:]))
            if all(_power_of_ten(a) for a in node.args[1:])
            else None
        )
        factor = None if scale is None else as_rational(scale)
        return None if inner is None or factor is None else _scaled(inner, factor)
    return None


def _power_of_ten(node: Node) -> bool:
    if node.kind == "pow":
        return node.args[0].kind == "num" and node.args[0].value.value == 10
    return node.kind == "num" and node.value.value in (10**3, 10**6, 10**9, 10**12)


def _scaled(number: Number, factor: Fraction) -> Number:
    assert number.ulp is not None  # precision() only yields decimals
    return Number(number.value * factor, number.ulp * abs(factor), number.digits, number.places)


def same_value(reference: Node, answer: Node, tally: Tally, scale: Fraction = Fraction(1)) -> bool:
    """Whether `answer * scale` equals the reference, at the reference's own precision.

    Raises Undefined where either has no value, TooCostly where deciding is refused, SandboxTimeout, SandboxError.
    """
    left, right = exact(reference), exact(answer)
    wanted = precision(reference)
    if right is not None and (value := as_rational(right)) is not None and left is not None:
        if wanted is not None:
            return agrees(wanted, value * scale)
        target = as_rational(left)
        return target is not None and target == value * scale
    if left is not None and right is not None and wanted is None:
        return left == {t: c * scale for t, c in right.items()}
    if scale == 1 and reference == answer:
        return _defined(reference)
    if wanted is None and (left is None or right is None) and scale == 1:
        exactly = _by_residues(reference, answer)
        if exactly is not None:
            tally.used("modular")
            return exactly
    if wanted is not None and not symbols(answer):
        return _near(wanted, answer, scale, tally)
    if scale != 1:
        answer = Node("mul", (Node("num", (), Number(scale)), answer))
    return same_function(reference, answer, tally)


def _by_residues(reference: Node, answer: Node) -> bool | None:
    """Large exact numbers; None where either is something else, or larger than is worked out."""
    reference, answer = folded(reference), folded(answer)
    if not (comparable(reference) and comparable(answer)):
        return None
    try:
        return same_residues(reference, answer)
    except TooCostly:
        return None


def _defined(node: Node) -> bool:
    """Whether an expression that equals itself in form has a value at all; 0/0 has none and equals nothing."""
    names = symbols(node)
    if len(names) > MAX_SYMBOLS:
        return True
    for salt in range(_POINTS):
        try:
            Evaluator(40, {name: point(name, salt) for name in names}).value(node)
        except Undefined:
            continue
        except (TooCostly, NeedsSymbolic):
            return True
        return True
    return False


def _near(wanted: Number, answer: Node, scale: Fraction, tally: Tally) -> bool:
    tally.used("numeric")
    try:
        found = Evaluator(digits_for(answer) + 20).value(answer)
    except NeedsSymbolic:
        tally.used("symbolic")
        text = shared().call("decimal", serialise(answer))
        if text is None:
            raise Undefined("no finite real value") from None
        return agrees(wanted, Fraction(text) * scale)
    if getattr(found, "imag", 0):
        return False
    return agrees(wanted, fraction(found) * scale)


def fraction(value: Any) -> Fraction:
    """A real high-precision float as the rational it is."""
    sign, mantissa, exponent, _ = value.real._mpf_ if hasattr(value, "_mpc_") else value._mpf_
    size = int(mantissa) * (2**exponent if exponent >= 0 else 1)
    return Fraction(-size if sign else size, 1 if exponent >= 0 else 2**-exponent)


def _symbolic(reference: Node, answer: Node, tally: Tally) -> bool:
    """Ask the worker. Raises SandboxTimeout, SandboxError, Undefined."""
    tally.used("symbolic")
    found = shared().call("same", serialise(reference), serialise(answer))
    if found is None:
        raise Undefined("no finite value, or undecided")
    return bool(found)


def same_function(reference: Node, answer: Node, tally: Tally) -> bool:
    """Whether two expressions agree at points: modulo primes for rational functions, else at high precision."""
    names = symbols(reference) | symbols(answer)
    if len(names) > MAX_SYMBOLS:
        raise TooCostly(f"more than {MAX_SYMBOLS} symbols")
    if names and is_rational_function(reference) and is_rational_function(answer):
        tally.used("modular")
        return same_modular(reference, answer)
    tally.used("numeric")
    try:
        return _same_numeric(reference, answer, sorted(names))
    except NeedsSymbolic:
        parts = matched(reference, answer, lambda a, b: same_value(a, b, tally))
        if parts is not None and same_value(*parts, tally):
            return True
        if has_primitive(reference) or has_primitive(answer):
            raise TooCostly("an integral without bounds") from None
        return _symbolic(reference, answer, tally)


def same_modular(reference: Node, answer: Node) -> bool:
    agreed = 0
    for salt in range(8):
        prime = PRIMES[salt % 2]
        try:
            if modular(reference, prime, salt) != modular(answer, prime, salt):
                return False
        except Undefined:
            continue
        agreed += 1
        if agreed == 2:
            return True
    raise Undefined("no point where both are defined")


def _same_numeric(reference: Node, answer: Node, names: list[str]) -> bool:
    """Compare where the reference is real; where it never is, in the complex plane."""
    digits = digits_for(reference, answer)
    if not names:
        evaluator = Evaluator(digits)
        return _close(evaluator, evaluator.value(reference), evaluator.value(answer))
    real = complex_points = 0
    failure: Exception | None = None
    place = whole_point if _of_integers(reference) or _of_integers(answer) else point
    for salt in range(_POINTS):
        evaluator = Evaluator(digits, {name: place(name, salt) for name in names})
        try:
            wanted = evaluator.value(reference)
        except (Undefined, TooCostly) as error:
            failure = error
            continue
        is_real = not getattr(wanted, "imag", 0)
        if not is_real and complex_points >= _ENOUGH:
            continue
        try:
            same = _close(evaluator, wanted, evaluator.value(answer))
        except Undefined:
            same = False
        except TooCostly as error:
            failure = error
            continue
        if is_real and not same:
            return False
        real += is_real
        complex_points += not is_real and same
        if not is_real and not same and real == 0 and salt >= _ENOUGH:
            return False
        if real >= (_ENOUGH if place is point else _POINTS - 2):
            return True
    if real >= 2 or complex_points >= _ENOUGH:
        return True
    if isinstance(failure, TooCostly):
        raise failure
    raise Undefined("too few points where the reference has a value")


def _of_integers(node: Node) -> bool:
    """Whether a function of integers alone, `\\gcd` or `lcm`, stands in the expression."""
    return any(n.kind == "func" and n.value in ("gcd", "lcm") for n in walk(node))


def _close(evaluator: Evaluator, a: Any, b: Any) -> bool:
    ctx = evaluator.ctx
    tolerance = ctx.mpf(10) ** (15 - evaluator.digits) * max(abs(a), abs(b))
    return abs(a - b) <= max(tolerance, evaluator.noise())
