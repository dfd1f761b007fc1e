"""Values of expressions at chosen points: modulo primes for rational functions, at high precision for everything else.

Points are derived from the symbols' names, not drawn from a generator, so that a verdict is the same on every machine.
By Schwartz-Zippel two different rational functions of degree d agree at such a point with probability about d / 2^109.
"""

from __future__ import annotations

import threading
from fractions import Fraction
from hashlib import blake2b
from math import gcd, lcm
from typing import Any

from mpmath.ctx_mp import MPContext

from app.verification.limits import MAX_TERMS, TooCostly, Undefined
from app.verification.tree import Node, num, replace, walk

# Safe primes, 2q + 1 with q prime, of 127 and 109 bits: modulo a Mersenne prime the powers of 2 take few values.
PRIMES = (170141182192818631503457902219180916163, 649035869376814168186037142030959)
_RATIONAL = frozenset({"num", "sym", "add", "mul", "neg", "inv", "pow", "pct", "base"})
_MAX_MAGNITUDE = 1_000_000  # bits of the largest intermediate value
_MAX_EXTRA_DIGITS = 600
_MAX_WORK = 300_000  # operations times digits of one evaluation
_local = threading.local()


class NeedsSymbolic(ArithmeticError):
    """Only the symbolic tier can say: an integral, a limit, an infinite sum."""


def context() -> Any:
    """This thread's own precision context: the global one of mpmath is shared by threads."""
    found = getattr(_local, "context", None)
    if found is None:
        found = _local.context = MPContext()
    return found


def is_rational_function(node: Node) -> bool:
    """Whether the expression has only field operations and integer powers."""
    for part in walk(node):
        if part.kind not in _RATIONAL:
            return False
        if part.kind == "pow":
            exponent = _integer(part.args[1])
            if exponent is None or abs(exponent) > 10_000:
                return False
    return True


def _integer(node: Node) -> int | None:
    sign = 1
    while node.kind == "neg":
        sign, node = -sign, node.args[0]
    if node.kind == "num" and node.value.value.denominator == 1:
        return sign * int(node.value.value)
    return None


def _hash(name: str, salt: int) -> int:
    return int.from_bytes(blake2b(f"{name}/{salt}".encode(), digest_size=20).digest(), "big")


def modular(node: Node, prime: int, salt: int) -> int:
    """The value of a rational function modulo a prime at point number `salt`. Raises Undefined at a pole."""
    kind = node.kind
    if kind == "num":
        value: Fraction = node.value.value
        return value.numerator * pow(value.denominator, -1, prime) % prime
    if kind == "sym":
        return _hash(node.value, salt) % prime
    if kind == "add":
        return sum(modular(a, prime, salt) for a in node.args) % prime
    if kind == "mul":
        product = 1
        for a in node.args:
            product = product * modular(a, prime, salt) % prime
        return product
    if kind == "base":
        return int(*node.value) % prime
    inner = modular(node.args[0], prime, salt)
    if kind == "neg":
        return -inner % prime
    if kind == "pct":
        return inner * pow(100, -1, prime) % prime
    exponent = -1 if kind == "inv" else _integer(node.args[1])
    assert exponent is not None  # is_rational_function saw to it
    if exponent <= 0 and not inner:
        raise Undefined("a pole")
    return pow(inner, exponent, prime)


def point(name: str, salt: int) -> Fraction:
    """The value of a symbol at real point number `salt`: small and large, of either sign, integers in some."""
    unit = Fraction(_hash(name, salt) % 10**9, 10**9)
    low, high = ((Fraction(1, 5), 1), (1, 4), (-3, Fraction(-1, 3)), (4, 11), (-1, 1), (2, 9), (-9, -2))[salt % 7]
    value = low + (high - low) * unit
    return Fraction(value.__floor__()) + 1 if salt % 7 == 5 else value


def whole_point(name: str, salt: int) -> Fraction:
    """A positive integer with small prime factors, so that two of them seldom have none in common."""
    seed, value = _hash(name, salt), 1
    for prime in (2, 3, 5, 7, 11):
        seed, power = divmod(seed, 3)
        value *= prime**power
    return Fraction(value)


class Evaluator:
    """Evaluates trees at high precision and remembers the largest summand, against which cancellation is judged."""

    def __init__(self, digits: int, values: dict[str, Fraction] | None = None) -> None:
        self.ctx = context()
        self.ctx.dps = digits
        self.digits = digits
        self.values = values or {}
        self.peak = self.ctx.mpf(0)
        self.budget = _MAX_WORK // digits

    def value(self, node: Node) -> Any:
        """The value, real where it can be. Raises Undefined, TooCostly, NeedsSymbolic."""
        try:
            result = self._value(node)
        except (ZeroDivisionError, ValueError, TypeError) as error:  # TypeError: complex numbers have no order
            raise Undefined(str(error)) from None
        except OverflowError as error:
            raise TooCostly(str(error)) from None
        if not self.ctx.isfinite(result):
            raise Undefined("not finite")
        return result

    def _value(self, node: Node) -> Any:
        kind, ctx = node.kind, self.ctx
        self.budget -= 1
        if self.budget < 0:
            raise TooCostly("too many operations")
        if kind == "num":
            value = node.value.value
            return ctx.mpf(value.numerator) / value.denominator
        if kind == "sym":
            if node.value not in self.values:
                raise TooCostly(f"no value for {node.value}")
            value = self.values[node.value]
            return ctx.mpf(value.numerator) / value.denominator
        if kind == "const":
            if node.value == "inf":
                raise Undefined("infinity inside an expression")
            return {"pi": ctx.pi, "e": ctx.e, "i": ctx.j}[node.value] * 1
        if kind == "add":
            return self._sum(self._value(a) for a in node.args)
        if kind == "mul":
            product = ctx.mpf(1)
            for a in node.args:
                product = product * self._value(a)
            return self._sized(product)
        if kind == "big":
            return self._big(node)
        if kind == "base":
            return ctx.mpf(int(*node.value))
        if kind == "unit" and node.value in ("deg", "degree", "degrees", "rad", "radian", "radians"):
            return ctx.pi / 180 if node.value.startswith("deg") else ctx.mpf(1)
        if kind not in ("neg", "inv", "pct", "pow", "func"):
            raise TooCostly(f"a {kind} has no value")
        args = [self._value(a) for a in node.args]
        if kind == "neg":
            return -args[0]
        if kind == "inv":
            if abs(args[0]) <= self.noise():
                raise Undefined("division by zero")
            return 1 / args[0]
        if kind == "pct":
            return args[0] / 100
        return self._power(*args) if kind == "pow" else self._function(node.value, args)

    def noise(self) -> Any:
        """Below this a result of cancellation is zero."""
        return self.peak * self.ctx.mpf(10) ** (12 - self.digits)

    def _sum(self, values: Any) -> Any:
        total = self.ctx.mpf(0)
        for value in values:
            total = total + value
            self.peak = max(self.peak, abs(value))
        return total

    def _sized(self, value: Any) -> Any:
        """The value, refused where its magnitude would make the next operation expensive."""
        if value and abs(self.ctx.mag(value)) > _MAX_MAGNITUDE:
            raise TooCostly("too large")
        return value

    def _power(self, base: Any, exponent: Any) -> Any:
        ctx = self.ctx
        if not base:
            if ctx.re(exponent) <= 0:
                raise Undefined("zero to a power that is not positive")
            return ctx.mpf(0)
        if (
            ctx.mag(exponent) > 40
            or abs(ctx.mag(base) * ctx.re(exponent)) > _MAX_MAGNITUDE
            or abs(ctx.im(exponent)) > 10**6
        ):
            raise TooCostly("a power too large")
        return base**exponent

    def _function(self, name: str, args: list[Any]) -> Any:
        ctx, x = self.ctx, args[0]
        if ctx.mag(x) > 2000:
            raise TooCostly(f"{name} of a huge number")
        if name == "root":
            return self._root(x, args[1])
        if name == "log":
            if not args[1] or not x or x == 1:
                raise Undefined("a logarithm without value")
            return ctx.log(args[1]) / ctx.log(x)
        if name == "ln":
            if not x:
                raise Undefined("log 0")
            return ctx.log(x)
        if name in ("factorial", "doublefactorial", "binom"):
            if any(ctx.mag(a) > 20 for a in args):
                raise TooCostly(f"{name} of a large number")
            return {"factorial": ctx.factorial, "doublefactorial": ctx.fac2, "binom": ctx.binomial}[name](*args)
        if name in ("min", "max"):
            if len(args) == 1:
                return x
            return (min if name == "min" else max)(*args)
        if name in ("gcd", "lcm"):
            return self._of_integers(name, args)
        if name == "mod":
            return args[0] - args[1] * ctx.floor(args[0] / args[1])
        if name in ("floor", "ceil"):
            nearest = ctx.nint(ctx.re(x))
            if abs(x - nearest) < ctx.mpf(10) ** (15 - self.digits) * max(1, abs(x)):
                return nearest
            return getattr(ctx, name)(ctx.re(x))
        if name in _PLAIN:
            if name in ("sinh", "cosh", "tanh", "coth") and abs(x) > 10**5:
                raise TooCostly(f"{name} of a large number")
            if name in ("tan", "sec", "cot", "csc"):
                below = ctx.cos(x) if name in ("tan", "sec") else ctx.sin(x)
                if abs(below) < ctx.mpf(10) ** (12 - self.digits):
                    raise Undefined(f"a pole of {name}")
            return getattr(ctx, _PLAIN[name])(x)
        raise TooCostly(f"{name} is not computed here")

    def _of_integers(self, name: str, args: list[Any]) -> Any:
        if not all(self.ctx.isint(a) and self.ctx.mag(a) < 100 for a in args):
            raise TooCostly(f"{name} of other than integers")
        return self.ctx.mpf((gcd if name == "gcd" else lcm)(*(int(a) for a in args)))

    def _root(self, index: Any, x: Any) -> Any:
        """`\\sqrt[n]{x}`, real for odd n."""
        ctx = self.ctx
        if not index:
            raise Undefined("a zeroth root")
        if abs(ctx.mag(x) / index) > _MAX_MAGNITUDE:
            raise TooCostly("a root too large")
        if index == 2:
            return ctx.sqrt(x)
        if ctx.isint(index) and int(index) % 2 and not ctx.im(x) and ctx.re(x) < 0:
            return -((-x) ** (1 / index))
        return self._power(x, 1 / index)

    def _big(self, node: Node) -> Any:
        variable, low, high, body = node.args
        if node.value not in ("sum", "prod") or any(n.value == "inf" for n in walk(high) if n.kind == "const"):
            raise NeedsSymbolic(node.value)
        first, last = self._value(low), self._value(high)
        if not self.ctx.isint(first) or not self.ctx.isint(last) or last - first > MAX_TERMS:
            raise TooCostly("bounds of a sum")
        terms = (self._value(replace(body, variable, num(k))) for k in range(int(first), int(last) + 1))
        if node.value == "sum":
            return self._sum(terms)
        product = self.ctx.mpf(1)
        for term in terms:
            product = self._sized(product * term)
        return product


_PLAIN = {
    name: name for name in ["sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "coth", "re", "im"]
} | {
    "abs": "fabs",
    "sgn": "sign",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "arccot": "acot",
    "arcsec": "asec",
    "arccsc": "acsc",
    "arsinh": "asinh",
    "arcosh": "acosh",
    "artanh": "atanh",
}


def digits_for(*nodes: Node) -> int:
    """Decimal digits of working precision, enough to tell the literals in the expressions apart.

    Raises TooCostly where that would be too many.
    """
    extra = 0
    for node in nodes:
        for part in walk(node):
            if part.kind == "num":
                value = part.value.value
                extra = max(extra, (max(value.numerator.bit_length(), value.denominator.bit_length()) * 3) // 10)
            elif part.kind == "pow":
                base, exponent = _integer(part.args[0]), _integer(part.args[1])
                if base and exponent:
                    extra = max(extra, abs(exponent) * base.bit_length() * 3 // 10)
    if extra > _MAX_EXTRA_DIGITS:
        raise TooCostly("numbers too long for a numerical comparison")
    return 50 + 2 * extra
