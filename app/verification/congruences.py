"""Congruences: `x \\equiv 3 \\pmod 7`, and the families `x = 7k + 3` that are the same residue classes."""

from __future__ import annotations

from fractions import Fraction
from math import lcm

from app.verification.canonical import rational
from app.verification.limits import Undefined
from app.verification.members import alternatives, declares
from app.verification.relations import same_equation
from app.verification.tree import Node, num, replace, sym, symbols, walk
from app.verification.values import Tally, same_value

_MAX_MODULUS = 5_000
Classes = tuple[str | None, int, frozenset[int]]  # of which symbol, the least period, the residues


def has_congruence(node: Node) -> bool:
    return node.kind == "cong" or (node.kind == "seq" and any(a.kind == "cong" for a in node.args))


def of_naturals(node: Node) -> bool:
    """Whether a family's parameter runs over less than the integers, which leaves out half of each class."""
    return any(n.kind == "space" and n.value != "Z" for n in walk(node))


def same_congruence(reference: Node, answer: Node, tally: Tally) -> bool:
    """Whether two answers, one at least a congruence, are the same residue classes of the same symbol."""
    left, right = _classes(reference), _classes(answer)
    if left is not None and right is not None:
        return left[1:] == right[1:] and (left[0] is None or right[0] is None or left[0] == right[0])
    if reference.kind != "cong" or answer.kind != "cong" or len(reference.args) != len(answer.args):
        return False
    if not same_value(reference.args[-1], answer.args[-1], tally):
        return False
    if len(reference.args) != 3:
        return reference == answer
    first, second = (Node("rel", node.args[:2], ("=",)) for node in (reference, answer))
    if "true" in (first.args[0].kind, second.args[0].kind):
        return same_value(first.args[1], second.args[1], tally)
    return same_equation(first, second, tally) and _same_difference(first, second, tally)


def _same_difference(first: Node, second: Node, tally: Tally) -> bool:
    """Whether both say the same and not a multiple of it: modulo a symbol, `2a = 2b` does not give `a = b`."""
    a, b, c, d = (*first.args, *second.args)
    return (same_value(a, c, tally) and same_value(b, d, tally)) or (
        same_value(a, d, tally) and same_value(b, c, tally)
    )


def _classes(node: Node) -> Classes | None:
    try:
        if node.kind == "cong":
            return _of_congruence(node)
        if node.kind == "seq" and node.value in ("", "or") and node.args:
            return _joined([_classes(a) for a in node.args])
        return _of_family(_family(node))
    except Undefined:
        return None


def _family(node: Node) -> Node:
    """`{7k + 3 : k in Z}` and `3 + 7Z` as the expression `7k + 3`."""
    if node.kind == "rel" and node.value == ("in",) and node.args[0].kind == "sym":
        inner = _family(node.args[1])
        return node if inner is node.args[1] else Node("rel", (node.args[0], inner), ("=",))
    if node.kind == "build" and declares(node.args[1]):
        return node.args[0]
    integers = Node("space", (), "Z")
    return replace(node, integers, sym("k")) if node.kind in ("add", "mul") and integers in walk(node) else node


def _joined(parts: list[Classes | None]) -> Classes | None:
    known = [p for p in parts if p is not None]
    names = {p[0] for p in known}
    if len(known) < len(parts) or len(names) != 1:
        return None
    modulus = lcm(*(p[1] for p in known))
    if modulus > _MAX_MODULUS:
        return None
    residues = {r + k * m for _, m, found in known for r in found for k in range(modulus // m)}
    return _least(names.pop(), modulus, residues)


def _of_congruence(node: Node) -> Classes | None:
    left, *residues, below = node.args
    modulus = rational(below)
    if modulus is None or modulus.denominator != 1 or not 1 <= abs(modulus) <= _MAX_MODULUS:
        return None
    m = abs(int(modulus))
    values = [rational(r) for residue in residues for r in alternatives(residue)]
    wanted = {int(v) % m for v in values if v is not None and v.denominator == 1}
    if any(v is None or v.denominator != 1 for v in values):
        return None
    if left.kind == "true":
        return _least(None, m, wanted)
    line = _linear(left)
    if line is None:
        return None
    name, slope, offset = line
    return _least(name, m, {x for x in range(m) if (slope * x + offset) % m in wanted})


def _of_family(node: Node) -> Classes | None:
    """`x = 7k + 3`, or `7k + 3` alone."""
    name: str | None = None
    if node.kind == "rel":
        if node.value != ("=",) or node.args[0].kind != "sym":
            return None
        name, node = node.args[0].value, node.args[1]
    line = _linear(node)
    if line is None or line[0] == name or not line[1] or abs(line[1]) > _MAX_MODULUS:
        return None
    return _least(name, abs(line[1]), {line[2] % abs(line[1])})


def _linear(node: Node) -> tuple[str, int, int] | None:
    """Symbol, slope and offset of a linear expression with integer coefficients in one symbol."""
    names = symbols(node)
    if len(names) != 1 or not {n.kind for n in walk(node)} <= {"num", "sym", "add", "mul", "neg"}:
        return None
    (name,) = names
    values: list[Fraction] = []
    for x in (0, 1, 2, 3):
        value = rational(replace(node, sym(name), num(x)))
        if value is None or value.denominator != 1:
            return None
        values.append(value)
    slope = values[1] - values[0]
    if any(values[i] != values[0] + i * slope for i in (2, 3)):
        return None
    return name, int(slope), int(values[0])


def _least(name: str | None, modulus: int, residues: set[int]) -> Classes:
    """The same classes by their least period: 1 and 3 modulo 4 are 1 modulo 2."""
    for period in range(1, modulus + 1):
        if modulus % period == 0 and all((r + period) % modulus in residues for r in residues):
            return name, period, frozenset(r % period for r in residues)
    return name, modulus, frozenset(residues)
