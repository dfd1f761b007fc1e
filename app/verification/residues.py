"""Exact numbers too large to write out, such as `2^{65536}` or `10000!`, compared by their residues modulo two primes.

An exponent is worked out in full where it is an integer of up to 200,000 bits. Two different numbers agree modulo both
primes, of 127 and 109 bits, with a probability that may be ignored; no third prime would change a verdict.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from app.verification.limits import TooCostly, Undefined
from app.verification.probe import PRIMES
from app.verification.tree import Node, inv, mul, symbols, walk

_MAX_EXPONENT = 200_000  # bits
_MAX_FACTORIAL = 100_000
_MAX_POWERS, _MAX_FUNCTIONS = 24, 6  # in one expression
_KINDS = frozenset({"num", "add", "mul", "neg", "inv", "pow", "factorial", "binom", "base"})


def folded(node: Node) -> Node:
    """Roots and logarithms of powers as powers and exponents: `\\sqrt{2^{65536}}` is `2^{32768}`."""
    if not node.args:
        return node
    args = tuple(folded(a) for a in node.args)
    if node.kind == "func" and node.value in ("root", "log") and args[1].kind == "pow":
        base, exponent = args[1].args
        if node.value == "log" and base == args[0]:
            return exponent
        if node.value == "root" and _positive(base):
            return _raised(base, mul(exponent, inv(args[0])))
    if node.kind == "pow" and args[0].kind == "pow" and _positive(args[0].args[0]):
        return _raised(args[0].args[0], mul(args[0].args[1], args[1]))
    return Node(node.kind, args, node.value)


def _positive(node: Node) -> bool:
    return node.kind == "num" and node.value.value > 0


def _raised(base: Node, exponent: Node) -> Node:
    return Node("pow", (base, exponent))


def comparable(node: Node) -> bool:
    """Whether a node is a closed expression of rationals, integer powers, factorials and binomials."""
    if symbols(node):
        return False
    kinds = [n.value if n.kind == "func" else n.kind for n in walk(node)]
    functions = kinds.count("factorial") + kinds.count("binom")
    return _KINDS.issuperset(kinds) and functions <= _MAX_FUNCTIONS and kinds.count("pow") <= _MAX_POWERS


def same_residues(reference: Node, answer: Node) -> bool:
    """Whether two such expressions have equal residues. Raises TooCostly where one is too large to try."""
    return all(_residue(reference, prime) == _residue(answer, prime) for prime in PRIMES)


def _residue(node: Node, prime: int) -> int:
    kind = node.kind
    if kind == "num":
        return _fraction(node.value.value, prime)
    if kind == "base":
        return int(*node.value) % prime
    if kind == "func":
        return _function(node, prime)
    if kind == "pow":
        base, exponent = _residue(node.args[0], prime), _integer(node.args[1])
        if not base and exponent <= 0:
            raise Undefined("zero to a power that is not positive")
        return pow(base, exponent % (prime - 1) if base else 1, prime)
    args = [_residue(a, prime) for a in node.args]
    if kind == "add":
        return sum(args) % prime
    if kind == "mul":
        product = 1
        for a in args:
            product = product * a % prime
        return product
    if kind == "neg":
        return -args[0] % prime
    if not args[0]:
        raise Undefined("division by zero")
    return pow(args[0], -1, prime)


def _fraction(value: Fraction, prime: int) -> int:
    return value.numerator * pow(value.denominator, -1, prime) % prime


def _function(node: Node, prime: int) -> int:
    args = [_integer(a) for a in node.args]
    if not all(0 <= a <= _MAX_FACTORIAL for a in args):
        raise TooCostly(f"{node.value} of a large number")
    if node.value == "factorial":
        return _factorial(args[0], prime)
    n, k = args
    if k > n:
        return 0
    below = _factorial(k, prime) * _factorial(n - k, prime) % prime
    return _factorial(n, prime) * pow(below, -1, prime) % prime


@lru_cache(maxsize=64)
def _factorial(n: int, prime: int) -> int:
    product = 1
    for k in range(2, n + 1):
        product = product * k % prime
    return product


def _integer(node: Node) -> int:
    """An exponent in full. Raises TooCostly where it is no integer or too large."""
    kind = node.kind
    if kind == "num" and node.value.value.denominator == 1:
        return int(node.value.value)
    if kind == "base":
        return int(*node.value)
    if kind == "neg":
        return -_integer(node.args[0])
    if kind == "pow":
        base, exponent = _integer(node.args[0]), _integer(node.args[1])
        if exponent < 0 or base.bit_length() * exponent > _MAX_EXPONENT:
            raise TooCostly("an exponent too large")
        return int(base**exponent)
    if kind in ("add", "mul"):
        total, below = (0 if kind == "add" else 1), 1
        for arg in node.args:
            if arg.kind == "inv":
                below *= _integer(arg.args[0])
            else:
                value = _integer(arg)
                total = total + value if kind == "add" else total * value
            if total.bit_length() + below.bit_length() > _MAX_EXPONENT:
                raise TooCostly("an exponent too large")
        if not below or total % below or (kind == "add" and below != 1):
            raise TooCostly("an exponent that is no integer")
        return total // below
    if kind == "func" and node.value == "factorial":
        n = _integer(node.args[0])
        if not 0 <= n <= 3_000:
            raise TooCostly("an exponent too large")
        total = 1
        for k in range(2, n + 1):
            total *= k
        return total
    raise TooCostly("an exponent that is no plain integer")
