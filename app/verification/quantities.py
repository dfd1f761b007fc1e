"""Units taken off an expression: what is measured, in which dimensions, and which nouns stand beside it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from app.verification.canonical import rational
from app.verification.limits import Undefined
from app.verification.tree import ONE, Node, add, inv, mul, neg, num, power, walk
from app.verification.units import UNITS, stem

Dimensions = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Quantity:
    """`number` as written, in `scale` base units of `dimensions`; `nouns` are words that are no known unit."""

    number: Node
    dimensions: Dimensions = ()
    scale: Fraction = Fraction(1)
    nouns: frozenset[str] = frozenset()
    mixed: bool = False  # a sum such as "5 feet 3 inches", already in base units

    @property
    def bare(self) -> bool:
        return not self.dimensions and not self.nouns


def has_units(node: Node) -> bool:
    """Whether units or nouns stand beside a value; degrees inside a function belong to its argument."""
    if node.kind == "func":
        return any(n.kind in ("unit", "noun") and n.value != "deg" for n in walk(node))
    return node.kind in ("unit", "noun") or any(has_units(a) for a in node.args)


def quantity(node: Node) -> Quantity | None:
    """The quantity an expression stands for; None where units stand in places that make no sense."""
    if not has_units(node):
        return Quantity(node)
    kind = node.kind
    if kind == "unit":
        dimensions, scale = UNITS[node.value]
        return Quantity(ONE, _tuple(dimensions), scale)
    if kind == "noun":
        return Quantity(ONE, nouns=frozenset({stem(node.value)}))
    if kind == "add":
        return _sum(node)
    parts = [quantity(a) for a in node.args]
    known = [p for p in parts if p is not None]
    if len(known) != len(parts):
        return None
    if kind == "mul":
        return _product(known)
    if kind == "neg":
        return Quantity(neg(known[0].number), known[0].dimensions, known[0].scale, known[0].nouns, known[0].mixed)
    if kind == "inv":
        (q,) = known
        number = ONE if q.number == ONE else inv(q.number)
        return Quantity(number, tuple((d, -n) for d, n in q.dimensions), 1 / q.scale, q.nouns)
    if kind == "pow" and known[1].bare:
        exponent = rational(known[1].number)
        if exponent is None or exponent.denominator != 1 or not 0 < abs(exponent) <= 4:
            return None
        q, n = known[0], int(exponent)
        number = ONE if q.number == ONE else power(q.number, num(n))
        return Quantity(number, tuple((d, k * n) for d, k in q.dimensions), q.scale**n, q.nouns)
    return None


def _tuple(dimensions: dict[str, int]) -> Dimensions:
    return tuple(sorted((d, n) for d, n in dimensions.items() if n))


def _product(parts: list[Quantity]) -> Quantity:
    dimensions: dict[str, int] = {}
    scale = Fraction(1)
    nouns: frozenset[str] = frozenset()
    numbers = []
    for part in parts:
        for d, n in part.dimensions:
            dimensions[d] = dimensions.get(d, 0) + n
        scale *= part.scale
        nouns |= part.nouns
        if part.number != ONE:
            numbers.append(part.number)
    if "angle" in dimensions and ("celsius" in dimensions or "fahrenheit" in dimensions):
        del dimensions["angle"]  # "degrees Celsius"
    mixed = any(p.mixed for p in parts)
    return Quantity(mul(*numbers) if numbers else ONE, _tuple(dimensions), scale, nouns, mixed)


def _sum(node: Node) -> Quantity | None:
    """ "3 hours 20 minutes": terms of one dimension, added in base units. "2 + 3 cm" is a sum in centimetres."""
    parts = [quantity(a) for a in node.args]
    terms = [p for p in parts if p is not None]
    dimensions = {p.dimensions for p in terms if p.dimensions}
    if len(terms) != len(parts) or len(dimensions) > 1:
        return None
    nouns = frozenset[str]().union(*(p.nouns for p in terms))
    if not dimensions:
        return Quantity(add(*(p.number for p in terms)), nouns=nouns)
    (only,) = dimensions
    scales = {p.scale for p in terms if p.dimensions}
    if len(scales) == 1:
        return Quantity(add(*(p.number for p in terms)), only, scales.pop(), nouns)
    if not all(p.dimensions for p in terms):
        return None
    return Quantity(add(*(mul(num(p.scale), p.number) for p in terms)), only, Fraction(1), nouns, mixed=True)


def degrees_as_radians(node: Node) -> Node | None:
    """An angle in degrees as an expression in radians, where the whole expression is one."""
    found = quantity(node)
    if found is None or found.dimensions != (("angle", 1),):
        return None
    return mul(found.number, num(found.scale), Node("unit", (), "deg"))


__all__ = ["Quantity", "Undefined", "degrees_as_radians", "has_units", "quantity"]
