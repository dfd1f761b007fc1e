"""Chains of equals signs: what value an answer such as `x = 2 + 3 = 5` gives, and when two equations are one."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from app.verification.limits import TooCostly, Undefined, Unreadable
from app.verification.probe import (
    PRIMES,
    Evaluator,
    NeedsSymbolic,
    digits_for,
    is_rational_function,
    modular,
    point,
)
from app.verification.quantities import has_units, quantity
from app.verification.tree import ONE, Node, add, neg, symbols, walk
from app.verification.values import Tally, same_value


class FalseChain(Unreadable):
    """A chain that equates two different numbers: `41 = 42`."""


@dataclass(frozen=True, slots=True)
class Named:
    """A value, with the name it was given if any, and rounded forms that stood after an approximation sign."""

    value: Node
    label: Node | None = None
    rounded: tuple[Node, ...] = ()


def named(node: Node, question: str | None, tally: Tally, *, sums: bool = True) -> Named | None:
    """The value that a chain of equals signs gives to its first side; None where it is an equation and gives none.

    With `sums`, "x + y = 7" names a value too; of a reference it is the equation of a line.
    Raises FalseChain where two sides without symbols differ.
    """
    if node.kind != "rel":
        return Named(node)
    if any(op not in ("=", "~") for op in node.value):
        return None
    sides = list(node.args)
    _check(sides, node.value, tally)
    first = sides[0]
    if is_label(first, question, sums=sums):
        label: Node | None = first
        sides, operators = sides[1:], node.value[1:]
    elif _closed(first):
        if len(sides) == 2 and is_label(sides[1], question, sums=sums):
            return Named(first, sides[1])
        if not all(_closed(s) for s in sides):
            return None
        label, operators = None, node.value
    elif node.value[0] == "~" or all(op == "~" for op in node.value):
        label, operators = None, node.value
    else:
        return None
    cut = operators.index("~") if "~" in operators else len(operators)
    return Named(sides[cut], label, tuple(sides[cut + 1 :]))


def _closed(node: Node) -> bool:
    return not symbols(node) and not any(n.kind in ("noun", "call") for n in walk(node))


def is_label(node: Node, question: str | None, *, sums: bool = True) -> bool:
    """Whether the left side of an equals sign only names what is asked: `x`, `f(3)`, `a + b`, `\\sin A`, words.

    `2x` and `x^2` are no labels, so that a half-solved equation gives no value, unless the question asks for just that.
    """
    if node.kind in ("sym", "call"):
        return True
    parts = list(walk(node))
    if any(p.kind == "noun" for p in parts):
        return not any(p.kind == "num" and p.value.value != 1 for p in parts)
    if node.kind == "func" and node.value in _NAMING and node.args[-1].kind in ("sym", "const", "mul"):
        return all(p.kind in ("func", "sym", "mul") or p is node.args[0] for p in parts)
    if node.kind in ("add", "mul") and all(_plain(a) for a in node.args):
        names = symbols(node)
        if (
            len(names) >= 2
            and (sums or not names <= {"x", "y", "z"})
            and all(p.kind not in ("num", "func", "const") or _small(p) for p in parts)
        ):
            return True
    if node.kind == "seq" and all(a.kind == "sym" for a in node.args):
        return True
    return question is not None and _asked(node, question)


_NAMING = frozenset({"sin", "cos", "tan", "cot", "sec", "csc", "abs", "det", "log", "ln"})


def _plain(node: Node) -> bool:
    """A symbol, a product of such or one over it; of powers only the -1 of an inverse function."""
    return node.kind in ("sym", "neg", "inv", "mul") or (node.kind == "pow" and node.args[1] == neg(ONE))


def _small(node: Node) -> bool:
    return (node.kind == "num" and node.value.value in (2, 3)) or (node.kind == "num" and node.value.value == 1)


def _asked(node: Node, question: str) -> bool:
    """Whether the question contains the same expression, in one of its formulas."""
    from app.verification.clauses import formulas
    from app.verification.parser import read

    return any(isinstance(found := read(text), Node) and found == node for text in formulas(question)[:20])


def _check(sides: list[Node], operators: tuple[str, ...], tally: Tally) -> None:
    """Raise FalseChain where neighbours without symbols differ."""
    for left, op, right in zip(sides, operators, sides[1:], strict=False):
        if not (_closed(left) and _closed(right)) or "seq" in (left.kind, right.kind):
            continue
        a, b = quantity(left), quantity(right)
        if a is None or b is None:
            continue
        if a.dimensions != b.dimensions:
            a, b = (a, b) if not a.dimensions or not b.dimensions else (None, None)
            if a is None or b is None:
                raise FalseChain("a chain of different dimensions")
        scale = b.scale / a.scale if a.dimensions and b.dimensions else Fraction(1)
        try:
            true = same_value(a.number, b.number, tally, scale) if op == "=" else _roughly(a.number, b.number, scale)
        except (Undefined, TooCostly, NeedsSymbolic):
            continue
        if (
            not true
            and not (op == "=" and _percent_pair(a.number, b.number, tally))
            and not _rounded_pair(b.number, a.number, tally)
        ):
            raise FalseChain("a chain that equates different numbers")


def _percent_pair(a: Node, b: Node, tally: Tally) -> bool:
    return False if "pct" not in (a.kind, b.kind) else same_value(a, b, tally)


def _rounded_pair(rounded: Node, exact_side: Node, tally: Tally) -> bool:
    """`22/7 = 3.14` where the right side is the left one rounded: written sloppily, not false."""
    try:
        return same_value(rounded, exact_side, tally)
    except (Undefined, TooCostly, NeedsSymbolic):
        return False


def _roughly(a: Node, b: Node, scale: Fraction) -> bool:
    evaluator = Evaluator(digits_for(a, b))
    left, right = evaluator.value(a), evaluator.value(b) * scale.numerator / scale.denominator
    return bool(abs(left - right) <= max(abs(left), abs(right)) * evaluator.ctx.mpf("0.05"))


def same_equation(reference: Node, answer: Node, tally: Tally) -> bool:
    """Whether two relations with symbols are one: their differences of sides are proportional, with the right sign."""
    if len(reference.value) != 1 or len(answer.value) != 1:
        return reference == answer
    left_op, right_op = reference.value[0], answer.value[0]
    f, g = _difference(reference), _difference(answer)
    if left_op != right_op:
        flipped = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}.get(right_op)
        if flipped != left_op:
            return False
        g = neg(g)
    names = sorted(symbols(f) | symbols(g))
    if not names or len(names) > 12 or has_units(f) or has_units(g):
        return reference == answer
    sign_matters = left_op in ("<", ">", "<=", ">=")
    if is_rational_function(f) and is_rational_function(g):
        tally.used("modular")
        if not _proportional(f, g):
            return _same_zeros(f, g)
        return not sign_matters or _ratio_sign(f, g, names) > 0
    tally.used("numeric")
    ratios = _ratios(f, g, names)
    if len(ratios) < 3:
        raise Undefined("too few points where both sides have values")
    tolerance = abs(ratios[0]) * 10**-25
    return all(abs(r - ratios[0]) <= tolerance for r in ratios) and (not sign_matters or ratios[0].real > 0)


def _difference(relation: Node) -> Node:
    return add(relation.args[0], neg(relation.args[1]))


def _proportional(f: Node, g: Node) -> bool:
    """f(p) g(q) = f(q) g(p) modulo primes: constant ratio."""
    agreed = 0
    for salt in range(8):
        prime = PRIMES[salt % 2]
        try:
            fp, fq = modular(f, prime, 2 * salt), modular(f, prime, 2 * salt + 1)
            gp, gq = modular(g, prime, 2 * salt), modular(g, prime, 2 * salt + 1)
        except Undefined:
            continue
        if not (fp and fq and gp and gq):
            return (not fp and not fq) == (not gp and not gq) and fp * gq % prime == fq * gp % prime
        if fp * gq % prime != fq * gp % prime:
            return False
        agreed += 1
        if agreed == 2:
            return True
    return False


def _same_zeros(f: Node, g: Node) -> bool:
    """Equations cleared of denominators: the ratio of the differences is a product of those denominators.

    `y = 1/x` and `xy = 1`. Only denominators that either side shows are cleared.
    """
    cleared_f, cleared_g = _cleared(f), _cleared(g)
    if cleared_f == f and cleared_g == g:
        return False
    return _proportional(cleared_f, cleared_g)


def _cleared(node: Node) -> Node:
    """The sum times every symbolic denominator of its terms."""
    denominators = {n.args[0] for n in walk(node) if n.kind == "inv" and symbols(n)}
    if not denominators or len(denominators) > 4:
        return node
    return Node("mul", (node, *sorted(denominators, key=repr)))


def _ratios(f: Node, g: Node, names: list[str]) -> list[Any]:
    digits = digits_for(f, g)
    ratios = []
    for salt in range(12):
        evaluator = Evaluator(digits, {n: point(n, salt) for n in names})
        try:
            a, b = evaluator.value(f), evaluator.value(g)
        except (Undefined, TooCostly):
            continue
        if abs(b) > evaluator.noise() and abs(a) > evaluator.noise():
            ratios.append(a / b)
        elif (abs(b) > evaluator.noise()) != (abs(a) > evaluator.noise()):
            return [evaluator.ctx.mpf(1), evaluator.ctx.mpf(2), evaluator.ctx.mpf(3)]
        if len(ratios) == 5:
            break
    return ratios


def _ratio_sign(f: Node, g: Node, names: list[str]) -> int:
    ratios = _ratios(f, g, names)
    return 0 if not ratios else (1 if ratios[0].real > 0 else -1)
