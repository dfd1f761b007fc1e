"""Sets of real numbers: unions of intervals, from interval notation, inequalities and set-builders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.verification.limits import MAX_ITEMS, TooCostly, Undefined
from app.verification.numbers import agrees
from app.verification.probe import Evaluator, NeedsSymbolic, digits_for
from app.verification.tree import Node, add, neg, num, symbols, walk
from app.verification.values import fraction, precision

_DIGITS = 60


@dataclass(frozen=True, slots=True)
class End:
    """An end of an interval: a high-precision number (or an infinity) and the expression it was written as."""

    value: Any
    node: Node | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    low: End
    low_closed: bool
    high: End
    high_closed: bool


RealSet = list[Piece]
_FLIP = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}


def looks_like_set(node: Node) -> bool:
    """Whether a node is set notation or an inequality, so that comparing it as a set of reals makes sense."""
    if node.kind in ("union", "inter", "minus", "build", "space", "empty"):
        return True
    if node.kind == "seq":
        if node.value in ("(]", "[)"):
            return True
        if node.value in ("()", "[]"):
            return len(node.args) == 2 and any(_infinite(a) for a in node.args)
        if node.value not in ("", "or", "where") or not all(a.kind == "rel" or looks_like_set(a) for a in node.args):
            return False
        return any(looks_like_set(a) for a in node.args)
    return node.kind == "rel" and any(op in ("<", ">", "<=", ">=", "!=", "in", "notin") for op in node.value)


def _infinite(node: Node) -> bool:
    return any(n.kind == "const" and n.value == "inf" for n in walk(node))


def to_set(node: Node) -> RealSet | None:
    """The set of reals a node stands for, None where it stands for none that is known exactly."""
    try:
        found = _to_set(node)
    except (Undefined, TooCostly, NeedsSymbolic):
        return None
    return None if found is None else _normal(found)


def _to_set(node: Node) -> RealSet | None:
    if node.kind == "empty":
        return []
    if node.kind == "space":
        return _half_space(node.value)
    if node.kind == "seq":
        return _from_sequence(node)
    if node.kind == "rel":
        return _from_relation(node)
    if node.kind == "build":
        return _from_builder(node)
    if node.kind in ("union", "inter", "minus"):
        parts = [_to_set(a) for a in node.args]
        known = [p for p in parts if p is not None]
        if len(known) != len(parts):
            return None
        result = known[0]
        for part in known[1:]:
            other = _complement(_normal(part)) if node.kind == "minus" else part
            result = result + other if node.kind == "union" else _intersection(_normal(result), _normal(other))
        return result
    return None


def _half_space(name: str) -> RealSet | None:
    """The reals, or those of one sign: `\\mathbb{R}_{\\ge 0}`."""
    minus, plus = _infinities()
    zero = _end(num(0))
    return {
        "R": [_everything()],
        "R+": [Piece(zero, False, plus, False)],
        "R-": [Piece(minus, False, zero, False)],
        "R>=0": [Piece(zero, True, plus, False)],
        "R<=0": [Piece(minus, False, zero, True)],
        "R*": [Piece(minus, False, zero, False), Piece(zero, False, plus, False)],
    }.get(name)


def _from_sequence(node: Node) -> RealSet | None:
    if node.value == "{}":
        points = [_end(a) for a in node.args]
        return [Piece(p, True, p, True) for p in points]
    if node.value in ("()", "[]", "(]", "[)") and len(node.args) == 2:
        low, high = _end(node.args[0]), _end(node.args[1])
        if low.value > high.value:
            return None
        return [Piece(low, node.value[0] == "[", high, node.value[1] == "]")]
    if node.value in ("", "or", "where"):
        return _from_list(node)
    return None


def _from_list(node: Node) -> RealSet | None:
    """Several conditions: alternatives after "or", otherwise all of them together where that leaves anything."""
    parts = [p for p in (_condition(a) for a in node.args) if p != "declaration"]
    sets = [p for p in parts if isinstance(p, list)]
    if len(sets) != len(parts) or not sets:
        return None
    joined = [piece for s in sets for piece in s]
    if node.value == "or":
        return joined
    together = _normal(sets[0])
    for other in sets[1:]:
        together = _intersection(together, _normal(other))
    return together or joined


def _condition(node: Node) -> RealSet | str | None:
    if node.kind == "rel" and node.value == ("in",) and node.args[1].kind == "space":
        return "declaration"
    return _to_set(node)


def _from_builder(node: Node) -> RealSet | None:
    head, condition = node.args
    name = symbols(head)
    if len(name) != 1 or (
        head.kind != "sym" and not (head.kind == "rel" and head.value == ("in",) and head.args[1].value == "R")
    ):
        return None
    return _to_set(condition) if symbols(condition) <= name else None


def _from_relation(node: Node) -> RealSet | None:
    operators, operands = node.value, node.args
    if operators in (("in",), ("notin",)):
        inside = _to_set(operands[1])
        if inside is None or operands[0].kind != "sym":
            return None
        return inside if operators == ("in",) else _complement(_normal(inside))
    if len(symbols(node)) != 1 or any(op not in _FLIP for op in operators):
        return None
    result: RealSet | None = None
    for left, op, right in zip(operands, operators, operands[1:], strict=False):
        if not symbols(left) and not symbols(right):
            return None
        half = _half_line(left, op, right)
        if half is None:
            return None
        result = half if result is None else _intersection(_normal(result), _normal(half))
    return result


def _half_line(left: Node, op: str, right: Node) -> RealSet | None:
    """The solutions of one relation that is linear in one symbol, or of an absolute value of such against a number."""
    if right.kind == "func" and right.value == "abs" and not symbols(left):
        left, op, right = right, _FLIP[op], left
    if left.kind == "func" and left.value == "abs" and not symbols(right):
        return _absolute(left.args[0], op, right)
    if left.kind == "sym" and not symbols(right):
        end = _end(right)
    elif right.kind == "sym" and not symbols(left):
        end, op = _end(left), _FLIP[op]
    else:
        solved = _solve(add(left, neg(right)))
        if solved is None:
            return None
        end, op = solved[0], op if solved[1] else _FLIP[op]
    minus, plus = _infinities()
    if op in ("<", "<="):
        return [Piece(minus, False, end, op == "<=")]
    if op in (">", ">="):
        return [Piece(end, op == ">=", plus, False)]
    if op == "=":
        return [Piece(end, True, end, True)]
    return [Piece(minus, False, end, False), Piece(end, False, plus, False)]


def _absolute(inner: Node, op: str, bound: Node) -> RealSet | None:
    """`|x - 1| < 2` and its like, for any bound."""
    if op in ("=", "!="):
        return None
    if _end(bound).value < 0:
        return [] if op in ("<", "<=") else [_everything()]
    above, below = _half_line(inner, op, bound), _half_line(inner, _FLIP[op], neg(bound))
    if above is None or below is None:
        return None
    return _intersection(_normal(above), _normal(below)) if op in ("<", "<=") else above + below


def _solve(difference: Node) -> tuple[End, bool] | None:
    """The root of a linear expression in one symbol and whether it rises; None where it is not linear."""
    (name,) = symbols(difference)
    digits = digits_for(difference) + 20
    values = []
    for x in (0, 1, 3, -2):
        evaluator = Evaluator(digits, {name: _whole(x)})
        values.append(evaluator.value(difference))
    if any(getattr(v, "imag", 0) for v in values):
        return None
    slope = values[1] - values[0]
    tolerance = evaluator.ctx.mpf(10) ** (15 - digits) * (1 + max(abs(v) for v in values))
    if (
        any(abs(values[0] + slope * x - v) > tolerance for x, v in zip((3, -2), values[2:], strict=True))
        or abs(slope) <= tolerance
    ):
        return None
    return End(-values[0] / slope), bool(slope > 0)


def _whole(x: int) -> Any:
    from fractions import Fraction

    return Fraction(x)


def _end(node: Node) -> End:
    sign, inner = (-1, node.args[0]) if node.kind == "neg" else (1, node)
    minus, plus = _infinities()
    if inner.kind == "const" and inner.value == "inf":
        return minus if sign < 0 else plus
    value = Evaluator(max(_DIGITS, digits_for(node))).value(node)
    if getattr(value, "imag", 0):
        raise Undefined("a complex end")
    return End(value, node)


def _infinities() -> tuple[End, End]:
    ctx = Evaluator(_DIGITS).ctx
    return End(ctx.ninf), End(ctx.inf)


def _everything() -> Piece:
    minus, plus = _infinities()
    return Piece(minus, False, plus, False)


# algebra --------------------------------------------------------------------------------------------------------------
def _same(a: Any, b: Any) -> bool:
    if a == b:
        return True
    if abs(a) == abs(b) or abs(a) == float("inf") or abs(b) == float("inf"):
        return False
    return bool(abs(a - b) <= max(abs(a), abs(b)) * 10**-40)


def _normal(pieces: RealSet) -> RealSet:
    """Disjoint pieces in order, touching ones joined, empty ones dropped."""
    if len(pieces) > MAX_ITEMS:
        raise TooCostly("a set of too many pieces")
    full = [p for p in pieces if not _same(p.low.value, p.high.value) or (p.low_closed and p.high_closed)]
    full.sort(key=lambda p: (p.low.value, not p.low_closed))
    out: RealSet = []
    for piece in full:
        if out:
            last = out[-1]
            touching = _same(last.high.value, piece.low.value) and (last.high_closed or piece.low_closed)
            if touching or (last.high.value > piece.low.value and not _same(last.high.value, piece.low.value)):
                out[-1] = _joined(last, piece)
                continue
        out.append(piece)
    return out


def _joined(a: Piece, b: Piece) -> Piece:
    low_closed = a.low_closed or (_same(a.low.value, b.low.value) and b.low_closed)
    if _same(a.high.value, b.high.value):
        return Piece(a.low, low_closed, a.high, a.high_closed or b.high_closed)
    if a.high.value > b.high.value:
        return Piece(a.low, low_closed, a.high, a.high_closed)
    return Piece(a.low, low_closed, b.high, b.high_closed)


def _complement(pieces: RealSet) -> RealSet:
    """The reals outside of normal pieces."""
    minus, plus = _infinities()
    out: RealSet = []
    low, closed = minus, False
    for piece in pieces:
        if piece.low.value != minus.value:
            out.append(Piece(low, closed, piece.low, not piece.low_closed))
        low, closed = piece.high, not piece.high_closed
    if low.value != plus.value:
        out.append(Piece(low, closed, plus, False))
    return out


def _intersection(a: RealSet, b: RealSet) -> RealSet:
    """The reals in both of two normal sets: a minus the complement of b, by De Morgan."""
    return _complement(_normal(_complement(a) + _complement(b)))


def same_set(reference: RealSet, answer: RealSet) -> bool:
    """Whether two normal sets are equal, ends compared at the precision of the reference."""
    return len(reference) == len(answer) and all(
        r.low_closed == a.low_closed
        and r.high_closed == a.high_closed
        and _same_end(r.low, a.low)
        and _same_end(r.high, a.high)
        for r, a in zip(reference, answer, strict=True)
    )


def _same_end(reference: End, answer: End) -> bool:
    if _same(reference.value, answer.value):
        return True
    wanted = precision(reference.node) if reference.node is not None else None
    if wanted is None or abs(answer.value) == float("inf"):
        return False
    return agrees(wanted, fraction(answer.value))
