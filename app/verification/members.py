"""Members of lists and what stands around them: signs, names, conditions, exact keys."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from app.verification.canonical import as_rational, exact
from app.verification.limits import TooCostly, Undefined
from app.verification.quantities import has_units, quantity
from app.verification.sets import looks_like_set
from app.verification.tree import INF, Node, add, neg, seq, symbols, walk

_MAX_SIGNS = 4  # plus-minus signs expanded


def exact_rational(node: Node) -> bool:
    value = exact(node)
    return value is not None and as_rational(value) is not None


def is_infinite(node: Node) -> bool:
    return node == INF or (node.kind == "neg" and node.args[0] == INF)


def added_up(nodes: list[Node]) -> Node | None:
    """ "1 hour and 30 minutes" as a sum: one dimension, in ever smaller units."""
    if len(nodes) < 2 or any(n.kind in ("seq", "rel") or not has_units(n) for n in nodes):
        return None
    parts = [quantity(n) for n in nodes]
    known = [p for p in parts if p is not None and p.dimensions]
    if len(known) < len(parts) or len({p.dimensions for p in known}) > 1:
        return None
    scales = [p.scale for p in known]
    return add(*nodes) if all(a > b for a, b in pairwise(scales)) else None


def expand_signs(node: Node) -> Node:
    """`a \\pm b` as the alternatives it stands for; `\\mp` takes the other sign."""
    listed = node.kind == "rel" or (node.kind == "seq" and node.value not in ("()", "<>"))
    count = 0 if listed else sum(n.kind == "pm" for n in walk(node))
    if not count:
        return node
    if count > _MAX_SIGNS:
        raise TooCostly("too many plus-minus signs")
    if any(n.kind == "pm" and n.value == "-+" for n in walk(node)):
        return seq((_signed(node, 1), _signed(node, -1)), "or")
    found = [node]
    for _ in range(count):
        found = [_first_signed(n, sign) for n in found for sign in (1, -1)]
    return seq(found, "or")


def _signed(node: Node, sign: int) -> Node:
    """Every sign at once, as `\\pm` and `\\mp` beside each other mean it."""
    if node.kind == "pm":
        inner = _signed(node.args[0], sign)
        return inner if (sign > 0) == (node.value == "+-") else neg(inner)
    if not node.args:
        return node
    return _rebuilt(node, tuple(_signed(a, sign) for a in node.args))


def _first_signed(node: Node, sign: int) -> Node:
    """The outermost first sign alone; the signs left are free, as in `(\\pm 1, \\pm 2)`, which is four points."""
    if node.kind == "pm":
        return node.args[0] if sign > 0 else neg(node.args[0])
    for i, arg in enumerate(node.args):
        if any(n.kind == "pm" for n in walk(arg)):
            return _rebuilt(node, (*node.args[:i], _first_signed(arg, sign), *node.args[i + 1 :]))
    return node


def _rebuilt(node: Node, args: tuple[Node, ...]) -> Node:
    return add(*args) if node.kind == "add" else Node(node.kind, args, node.value)


def declares(node: Node) -> bool:
    """`k \\in \\mathbb{Z}`, "k is an integer": says what a symbol ranges over and nothing else."""
    if node.kind == "rel" and node.value == ("in",) and node.args[1].kind == "space":
        return True
    return node.kind == "mul" and any(n.kind == "noun" and n.value in ("integer", "integers") for n in node.args)


def restricts(node: Node) -> bool:
    """`x \\ne 1` after an expression: where it holds, not another member."""
    return node.kind == "rel" and all(op in ("<", ">", "<=", ">=", "!=") for op in node.value)


def all_named(nodes: list[Node]) -> bool:
    return all(n.kind == "rel" and n.value == ("=",) for n in nodes)


def unlabelled(node: Node) -> Node:
    """The set of `S = (1, 2)`."""
    if node.kind == "rel" and node.value == ("=",) and looks_like_set(node.args[1]):
        return node.args[1]
    if node.kind == "rel" and node.value == ("in",) and node.args[0].kind != "sym":
        return node.args[1]
    return node


def set_variable(node: Node) -> str | None:
    """The symbol an inequality is about, where it is one."""
    if node.kind == "seq" and node.value in ("", "or") and node.args:
        return set_variable(node.args[0])
    if node.kind == "rel":
        names = symbols(node)
        return names.pop() if len(names) == 1 else None
    return None


def unknowns(node: Node) -> tuple[str, ...]:
    """The names in `x = 1, y = 2`, where every member has one and they are different; roots x_1, x_2 are not."""
    if not all(a.kind == "rel" and a.value == ("=",) and a.args[0].kind == "sym" for a in node.args):
        return ()
    names = tuple(a.args[0].value for a in node.args)
    return names if len({n.split("_")[0] for n in names}) == len(names) > 1 else ()


def alternatives(member: Node) -> list[Node]:
    """`x = \\pm 2` and `3 \\pm 1` as the members they stand for."""
    if member.kind == "rel" and member.value == ("=",) and member.args[0].kind == "sym":
        body = expand_signs(member.args[1])
        if body.kind == "seq" and body.value == "or":
            return [Node("rel", (member.args[0], b), ("=",)) for b in body.args]
        return [member]
    member = expand_signs(member)
    return list(member.args) if member.kind == "seq" and member.value == "or" else [member]


def dots(node: Node) -> bool:
    return any(a.kind == "dots" for a in node.args)


def distinct(nodes: list[Node]) -> list[Node]:
    """Members without those that have an exact value seen before."""
    out, seen = [], set()
    for node in nodes:
        value = _key(node)
        if value is None or value not in seen:
            out.append(node)
        if value is not None:
            seen.add(value)
    return out


def _key(node: Node) -> Fraction | None:
    """The exact rational value of a plain member, None for all others."""
    if node.kind == "num":
        return node.value.value
    if node.kind not in ("neg", "mul", "add", "pow"):
        return None
    try:
        value = exact(node)
    except Undefined:
        return None
    return None if value is None else as_rational(value)


def keyed(nodes: list[Node]) -> tuple[list[Node], dict[Fraction, int]]:
    loose: list[Node] = []
    keys: dict[Fraction, int] = {}
    for node in nodes:
        value = _key(node)
        if value is None:
            loose.append(node)
        else:
            keys[value] = keys.get(value, 0) + 1
    return loose, keys


def as_written(loose: list[Node], original: list[Node]) -> list[Node]:
    by_value = {_key(n): n for n in original if _key(n) is not None}
    return [by_value.get(n.value.value, n) if n.kind == "num" else n for n in loose]


def rows(node: Node) -> list[tuple[Node, ...]] | None:
    """Rows of a matrix; a tuple counts as a column, `[[1, 2], [3, 4]]` as rows."""
    if node.kind == "matrix":
        rows = [row.args for row in node.args]
        return [(cell,) for cell in rows[0]] if len(rows) == 1 and len(rows[0]) > 1 else rows
    if node.kind == "seq" and node.value in ("()", "[]", "<>"):
        if all(a.kind == "seq" and a.value in ("()", "[]") for a in node.args):
            rows = [a.args for a in node.args]
            return rows if len(rows) > 1 or len(rows[0]) == 1 else [(cell,) for cell in rows[0]]
        return [(a,) for a in node.args]
    return None


def quotient(parts: tuple[Node, ...]) -> Node:
    return Node("mul", (parts[0], Node("inv", (parts[1],))))


def as_equation(node: Node) -> Node | None:
    """A relation with two sides, where the node is one."""
    if node.kind == "rel" and len(node.args) == 2 and node.value in (("=",), ("!=",)):
        return node
    return None
