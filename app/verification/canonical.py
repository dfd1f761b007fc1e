"""Exact values of closed expressions: sums of rationals times square roots, powers of pi and i."""

from __future__ import annotations

from fractions import Fraction
from math import comb, factorial, gcd, isqrt, lcm

from app.verification.limits import MAX_BITS, MAX_FACTORIAL, Undefined
from app.verification.tree import Node

# A value is a sum of coefficient * sqrt(radicand) * pi^power * i^imaginary: a map of (radicand, power, imaginary) to
# coefficients, without zero coefficients. Radicands are square-free integers above 0, so that the map is unique.
Term = tuple[int, int, int]
Exact = dict[Term, Fraction]

UNIT: Term = (1, 0, 0)
_PRIMES = tuple(p for p in range(2, 1000) if all(p % q for q in range(2, isqrt(p) + 1)))
_MAX_RADICAND = 10**12


def rational(node: Node) -> Fraction | None:
    """The value of a closed rational expression, None where it is not one. Raises Undefined."""
    value = exact(node)
    return None if value is None else as_rational(value)


def as_rational(value: Exact) -> Fraction | None:
    if not value:
        return Fraction(0)
    return value.get(UNIT) if len(value) == 1 else None


def exact(node: Node) -> Exact | None:
    """The exact value, or None where the form is another or it is too large. Raises Undefined for 1/0 and its like."""
    kind = node.kind
    if kind == "num":
        return {UNIT: node.value.value} if node.value.value else {}
    if kind == "const":
        return {"pi": {(1, 1, 0): Fraction(1)}, "i": {(1, 0, 1): Fraction(1)}}.get(node.value)
    if kind == "base":
        return _of(Fraction(int(*node.value)))
    handler = _HANDLERS.get(kind)
    if handler is None:
        return None
    args = []
    for arg in node.args:
        value = exact(arg)
        if value is None:
            return None
        args.append(value)
    return handler(args) if kind != "func" else _function(node.value, args)


def _of(value: Fraction) -> Exact:
    return {UNIT: value} if value else {}


def _bounded(value: Exact) -> Exact | None:
    if len(value) > 16:
        return None
    for c in value.values():
        if c.numerator.bit_length() + c.denominator.bit_length() > MAX_BITS:
            return None
    return value


def _sum(args: list[Exact]) -> Exact | None:
    total: Exact = {}
    for value in args:
        for term, c in value.items():
            c = total.get(term, 0) + c
            if c:
                total[term] = c
            else:
                total.pop(term, None)
    return _bounded(total)


def _times(a: Exact, b: Exact) -> Exact | None:
    out: Exact = {}
    for (r, p, m), c in a.items():
        for (s, q, n), d in b.items():
            g = gcd(r, s)
            coefficient = c * d * g * (-1 if m and n else 1)
            term = ((r // g) * (s // g), p + q, m ^ n)
            if term[0] > _MAX_RADICAND:
                return None
            coefficient += out.get(term, 0)
            if coefficient:
                out[term] = coefficient
            else:
                out.pop(term, None)
    return _bounded(out)


def _product(args: list[Exact]) -> Exact | None:
    product: Exact | None = {UNIT: Fraction(1)}
    for value in args:
        product = _times(product, value)  # type: ignore[arg-type]
        if product is None:
            return None
    return product


def _inverse(args: list[Exact]) -> Exact | None:
    """1/x for one term, or for two terms by the conjugate."""
    (value,) = args
    if not value:
        raise Undefined("division by zero")
    if len(value) == 1:
        (((r, p, m), c),) = value.items()
        return _bounded({(r, -p, m): (-1 if m else 1) / (c * r)})
    if len(value) == 2:
        (first, c), (second, d) = value.items()
        conjugate = {first: c, second: -d}
        norm = _times(value, conjugate)
        if norm is not None and len(norm) == 1:
            inverse = _inverse([norm])
            return None if inverse is None else _times(conjugate, inverse)
    return None


def _power(args: list[Exact]) -> Exact | None:
    base, exponent = args[0], as_rational(args[1])
    if exponent is None:
        return None
    if not base:
        if exponent <= 0:
            raise Undefined("zero to a power that is not positive")
        return {}
    if exponent.denominator == 1:
        return _integer_power(base, int(exponent))
    plain = as_rational(base)
    if plain is None or abs(exponent.numerator) > 64:
        return None
    root = _root(plain, exponent.denominator)
    return None if root is None else _integer_power(root, exponent.numerator)


def _integer_power(base: Exact, n: int) -> Exact | None:
    """base^n, refused where the result would pass the bound on bits, before it is computed."""
    if len(base) == 1:
        (((r, p, m), c),) = base.items()
        size = max(c.numerator.bit_length(), c.denominator.bit_length()) - (abs(c) == 1)
        if abs(n) * (size + r.bit_length() - 1) > MAX_BITS or abs(n * p) > 1000:
            return None
        if n < 0:
            inverse = _inverse([base])
            return None if inverse is None else _integer_power(inverse, -n)
        sign = -1 if m and n % 4 in (2, 3) else 1
        return {(r if n % 2 else 1, p * n, m * (n % 2)): sign * c**n * r ** (n // 2)}
    if not -8 <= n <= 8:
        return None
    if n < 0:
        inverse = _inverse([base])
        return None if inverse is None else _integer_power(inverse, -n)
    return _product([base] * n)


def _root(value: Fraction, index: int) -> Exact | None:
    """The principal root of a rational: any square root, other roots where they come out rational."""
    if index == 2:
        inner = _square_part(abs(value.numerator) * value.denominator)
        if inner is None:
            return None
        outside, radicand = inner
        return {(radicand, 0, int(value < 0)): Fraction(outside, value.denominator)} if value else {}
    if value < 0 or index > 64:
        return None
    top, bottom = _integer_root(value.numerator, index), _integer_root(value.denominator, index)
    return None if top is None or bottom is None else _of(Fraction(top, bottom))


def _square_part(n: int) -> tuple[int, int] | None:
    """n = outside^2 * radicand with a square-free radicand; None where n is too large to be sure."""
    outside, radicand = 1, 1
    if n.bit_length() > 4 * MAX_BITS:
        return None
    for p in _PRIMES:
        if p * p > n:
            break
        while n % (p * p) == 0:
            n //= p * p
            outside *= p
        if n % p == 0:
            n //= p
            radicand *= p
    root = isqrt(n)
    if root * root == n:
        return outside * root, radicand
    if n >= _PRIMES[-1] ** 3:  # could still hide the square of a larger prime
        return None
    return (outside, radicand * n) if radicand * n <= _MAX_RADICAND else None


def _integer_root(n: int, index: int) -> int | None:
    if n.bit_length() > MAX_BITS:
        return None
    guess = round(n ** (1 / index)) if n.bit_length() < 1000 else None
    if guess is None:
        return None
    return next((g for g in (guess - 1, guess, guess + 1) if g >= 0 and g**index == n), None)


def _function(name: str, args: list[Exact]) -> Exact | None:
    values = [as_rational(a) for a in args]
    if name == "root":
        index = values[0]
        if index is None or index.denominator != 1 or index < 1:
            if index == 0:
                raise Undefined("a zeroth root")
            return None
        return (
            _nested(args[1])
            if index == 2 and values[1] is None
            else None
            if values[1] is None
            else _real_root(values[1], int(index))
        )
    if any(v is None for v in values):
        return None
    known = [v for v in values if v is not None]
    if name == "abs":
        return _of(abs(known[0]))
    if name in ("floor", "ceil"):
        return _of(Fraction(known[0].__floor__() if name == "floor" else known[0].__ceil__()))
    if name in ("min", "max") and known:
        return _of(min(known) if name == "min" else max(known))
    if name == "sgn":
        return _of(Fraction((known[0] > 0) - (known[0] < 0)))
    if any(v.denominator != 1 for v in known):
        return None
    return _integers(name, [int(v) for v in known])


def _nested(value: Exact) -> Exact | None:
    """sqrt(a + b sqrt(r)), where it is a sum of two square roots of rationals."""
    if len(value) != 2 or UNIT not in value:
        return None
    a = value[UNIT]
    (r, p, m), b = next((t, c) for t, c in value.items() if t != UNIT)
    if p or m or a < 0:
        return None
    inner = _root(a * a - b * b * r, 2) if a * a >= b * b * r else None
    d = as_rational(inner) if inner is not None else None
    if d is None:
        return None
    big, small = _root((a + d) / 2, 2), _root((a - d) / 2, 2)
    if big is None or small is None:
        return None
    return _sum([big, small if b > 0 else {t: -c for t, c in small.items()}])


def _real_root(value: Fraction, index: int) -> Exact | None:
    """The root as `\\sqrt[n]{}` means it: real for odd n, also of negative numbers."""
    if index == 1:
        return _of(value)
    if value < 0 and index % 2:
        root = _root(-value, index)
        return None if root is None else {t: -c for t, c in root.items()}
    return _root(value, index)


def _integers(name: str, values: list[int]) -> Exact | None:
    if name in ("factorial", "doublefactorial"):
        n = values[0]
        if n < 0:
            raise Undefined("the factorial of a negative number")
        if n > MAX_FACTORIAL:
            return None
        if name == "factorial":
            return _of(Fraction(factorial(n)))
        product = 1
        for k in range(n, 0, -2):
            product *= k
        return _of(Fraction(product))
    if name == "binom":
        n, k = values
        if not 0 <= n <= MAX_FACTORIAL or k < 0:
            return None
        return _of(Fraction(comb(n, k)))
    if name == "gcd":
        return _of(Fraction(gcd(*values)))
    if name == "lcm":
        return _of(Fraction(lcm(*values))) if len(values) <= 20 else None
    if name == "mod" and values[1]:
        return _of(Fraction(values[0] % values[1]))
    if name == "log":
        return _logarithm(*values)
    return None


def _logarithm(base: int, x: int) -> Exact | None:
    """log_base x where it is an integer."""
    if base < 2 or x < 1:
        return None
    n = 0
    while x % base == 0:
        x //= base
        n += 1
    return _of(Fraction(n)) if x == 1 else None


_HANDLERS = {
    "add": _sum,
    "mul": _product,
    "neg": lambda args: {t: -c for t, c in args[0].items()},
    "inv": _inverse,
    "pow": _power,
    "pct": lambda args: {t: c / 100 for t, c in args[0].items()},
    "func": _sum,  # replaced by name in exact()
}
