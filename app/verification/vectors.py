"""Arithmetic of matrices and vectors in an answer: `2(1, 2)`, sums, products, powers, transposes, `i + 2j`, lines."""

from __future__ import annotations

from typing import Any

from app.verification.canonical import rational
from app.verification.commands import determinant
from app.verification.limits import TooCostly, Undefined, Unreadable
from app.verification.probe import Evaluator, NeedsSymbolic, digits_for
from app.verification.tree import ONE, ZERO, I, Node, add, inv, mul, neg, num, replace, seq, sym, symbols, walk

Rows = list[tuple[Node, ...]]

UNITS = ("\\i", "\\j", "\\k")  # unit vectors, written bold or with a hat
_MAX_SIDE, _MAX_POWER, _MAX_CELLS = 8, 8, 400
_ARITHMETIC = frozenset({"add", "mul", "neg", "pow", "func"})


def is_array(node: Node) -> bool:
    return node.kind == "matrix" or (node.kind == "seq" and node.value in ("()", "<>"))


def reduced(node: Node) -> Node:
    """The matrix or vector that an expression of such stands for; the node itself where there is none to work out."""
    if node.kind == "func" and node.value == "diag":
        size = range(len(node.args))
        return Node("matrix", tuple(Node("row", tuple(node.args[i] if i == j else ZERO for j in size)) for i in size))
    if node.kind not in _ARITHMETIC or not any(is_array(n) for n in walk(node)):
        return node
    args = tuple(reduced(a) for a in node.args)
    arrays = [a for a in args if is_array(a)]
    if not arrays:
        return Node(node.kind, args, node.value)
    worked = _worked(node, args, arrays)
    return Node(node.kind, args, node.value) if worked is None else worked


def _worked(node: Node, args: tuple[Node, ...], arrays: list[Node]) -> Node | None:
    if node.kind == "neg":
        return _each(args[0], neg)
    if node.kind == "add":
        return _sum(list(args)) if len(arrays) == len(args) else None
    if node.kind == "mul":
        factors = [a for a in args if not is_array(a)]
        product = arrays[0]
        for other in arrays[1:]:
            joined = _product(product, other)
            if joined is None:
                return None
            product = joined
        return _each(product, lambda cell: mul(*factors, cell)) if factors else product
    if node.kind == "pow":
        return _power(args[0], args[1])
    if node.kind == "func" and node.value in ("det", "abs") and args[0].kind == "matrix":
        return determinant([row.args for row in args[0].args])
    return None


def _cells(node: Node) -> Rows:
    return [row.args for row in node.args] if node.kind == "matrix" else [(a,) for a in node.args]


def _array(rows: Rows, like: Node) -> Node:
    if like.kind == "seq" and all(len(row) == 1 for row in rows):
        return seq([row[0] for row in rows], like.value)
    return Node("matrix", tuple(Node("row", tuple(row)) for row in rows))


def _each(node: Node, change: Any) -> Node:
    return _array([tuple(change(cell) for cell in row) for row in _cells(node)], node)


def _sum(arrays: list[Node]) -> Node | None:
    cells = [_cells(a) for a in arrays]
    if len({(len(c), len(c[0])) for c in cells}) != 1:
        return None
    like = next((a for a in arrays if a.kind == "seq"), arrays[0])
    rows = [tuple(add(*parts) for parts in zip(*lines, strict=True)) for lines in zip(*cells, strict=True)]
    return _array(rows, like)


def _product(left: Node, right: Node) -> Node | None:
    if left.kind != "matrix":
        return None
    a, b = _cells(left), _cells(right)
    if len(a[0]) != len(b) or max(len(a), len(b), len(b[0])) > _MAX_SIDE:
        return None
    columns = list(zip(*b, strict=True))
    rows = [tuple(add(*(mul(x, y) for x, y in zip(row, column, strict=True))) for column in columns) for row in a]
    return rows[0][0] if len(rows) == len(rows[0]) == 1 else _array(rows, right)


def _power(base: Node, exponent: Node) -> Node | None:
    """A transpose, a small positive power, or an inverse."""
    if exponent == sym("T"):
        return Node("matrix", tuple(Node("row", tuple(column)) for column in zip(*_cells(base), strict=True)))
    if base.kind != "matrix" or len(base.args) != len(base.args[0].args):
        return None
    n = rational(exponent)
    if n == -1:
        return _inverse(_cells(base))
    if n is None or n.denominator != 1 or not 1 <= n <= _MAX_POWER or len(base.args) > 4:
        return None
    product: Node | None = base
    for _ in range(int(n) - 1):
        product = None if product is None else _product(product, base)
        if product is not None and sum(1 for _ in walk(product)) > _MAX_CELLS:
            return None
    return product


def _inverse(rows: Rows) -> Node | None:
    """By cofactors, up to 3 x 3."""
    size = len(rows)
    if size > 3:
        return None
    try:
        below = inv(determinant(rows))
        if size == 1:
            return Node("matrix", (Node("row", (below,)),))
        out = []
        for i in range(size):
            row = []
            for j in range(size):
                minor = determinant([r[:i] + r[i + 1 :] for k, r in enumerate(rows) if k != j])
                row.append(mul(neg(minor) if (i + j) % 2 else minor, below))
            out.append(Node("row", tuple(row)))
    except Unreadable:
        return None
    return Node("matrix", tuple(out))


def identities(node: Node, size: int) -> Node:
    """`2I` as a matrix, where the other side is a square one of `size` rows."""
    names = [name for name in ("I", f"I_{size}", "E") if name in symbols(node)]
    if len(names) != 1 or node.kind not in ("sym", "mul", "neg", "add"):
        return node
    cells = [[ONE if i == j else ZERO for j in range(size)] for i in range(size)]
    matrix = Node("matrix", tuple(Node("row", tuple(row)) for row in cells))
    return reduced(replace(node, sym(names[0]), matrix))


# unit vectors ---------------------------------------------------------------------------------------------------------
def in_units(node: Node, size: int) -> Node | None:
    """The vector of `size` entries that `2i - j` stands for; None where it is no sum of multiples of unit vectors."""
    if is_array(node) or node.kind not in ("add", "mul", "neg", "sym", "const"):
        return None
    if not any(n.kind == "sym" and n.value in UNITS for n in walk(node)):
        names = {n.value for n in walk(node) if n.kind in ("sym", "const")}
        if len(names & {"i", "j", "k"}) < 2:
            return None
        for old, new in zip((I, sym("j"), sym("k")), UNITS, strict=True):
            node = replace(node, old, sym(new))
    terms = node.args if node.kind == "add" else (node,)
    entries: list[list[Node]] = [[], [], []]
    for term in terms:
        found = _unit(term)
        if found is None:
            return None
        entries[found].append(replace(term, sym(UNITS[found]), ONE))
    if any(entries[size:]):
        return None
    return seq([add(*e) if e else num(0) for e in entries[:size]], "()")


def _unit(term: Node) -> int | None:
    """Which unit vector a term is a multiple of."""
    inner = term.args[0] if term.kind == "neg" else term
    factors = inner.args if inner.kind == "mul" else (inner,)
    found = [n.value for f in factors for n in walk(f) if n.kind == "sym" and n.value in UNITS]
    plain = [f.value for f in factors if f.kind == "sym" and f.value in UNITS]
    return UNITS.index(plain[0]) if len(found) == len(plain) == 1 else None


# lines ----------------------------------------------------------------------------------------------------------------
def is_line(node: Node) -> bool:
    """Whether a node is written `p + t v`: a point and a multiple of a direction."""
    if node.kind != "add" or not any(is_array(a) for a in node.args) or len(symbols(node)) != 1:
        return False
    return is_array(reduced(node))


def same_line(reference: Node, answer: Node) -> bool:
    """Whether two vectors, each linear in one parameter of its own, run along one line."""
    first, second = _point_and_direction(reference), _point_and_direction(answer)
    if first is None or second is None or len(first[0]) != len(second[0]):
        return False
    (p, v), (q, w) = first, second
    if not any(abs(x) > 1e-30 for x in v) or not any(abs(x) > 1e-30 for x in w):
        return False
    return _parallel(v, w) and _parallel(v, [a - b for a, b in zip(p, q, strict=True)])


def _parallel(v: list[Any], w: list[Any]) -> bool:
    scale = max(map(abs, v)) * max(1, *map(abs, w))
    return all(abs(v[i] * w[j] - v[j] * w[i]) <= scale * 1e-30 for i in range(len(v)) for j in range(i))


def _point_and_direction(node: Node) -> tuple[list[Any], list[Any]] | None:
    vector = reduced(node)
    names = sorted(symbols(vector))
    if not is_array(vector) or len(names) != 1:
        return None
    cells = [row[0] for row in _cells(vector)]
    try:
        at = [[_at(cell, names[0], t) for cell in cells] for t in (0, 1, 2)]
    except (Undefined, TooCostly, NeedsSymbolic):
        return None
    step = [b - a for a, b in zip(at[0], at[1], strict=True)]
    if any(abs(c - a - 2 * d) > 1e-30 for a, c, d in zip(at[0], at[2], step, strict=True)):
        return None
    return at[0], step


def _at(cell: Node, name: str, t: int) -> Any:
    closed = replace(cell, sym(name), num(t))
    value = Evaluator(digits_for(closed) + 10).value(closed)
    if getattr(value, "imag", 0):
        raise Undefined("a complex entry")
    return value
