"""Lists with dots: `1, 2, \\ldots, n` and `1, 2, 3, \\ldots, n` go on by one rule, or they are two lists."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from app.verification.canonical import rational
from app.verification.limits import MAX_ITEMS, Undefined
from app.verification.tree import Node, add, inv, mul, neg, num

Same = Callable[[Node, Node], bool]


def same_dotted(reference: tuple[Node, ...], answer: tuple[Node, ...], same: Same) -> bool:
    """Whether two lists, one or both with dots at one place, are the same sequence."""
    left, right = _split(reference), _split(answer)
    if left is None or right is None:
        return _written_out(reference, answer, same) or _written_out(answer, reference, lambda a, b: same(b, a))
    (head, tail), (other_head, other_tail) = left, right
    if bool(tail) != bool(other_tail):
        return False
    long_head = head if len(head) >= len(other_head) else other_head
    if not _all_same(head, other_head, same, from_end=False) or not _all_same(tail, other_tail, same, from_end=True):
        return False
    if len(head) == len(other_head) and len(tail) == len(other_tail):
        return True
    shown = min(len(head), len(other_head))
    return shown >= 2 and _goes_on(long_head, max(tail, other_tail, key=len), same, quotients=shown > 2)


def _split(nodes: tuple[Node, ...]) -> tuple[tuple[Node, ...], tuple[Node, ...]] | None:
    """What stands before the dots and after them; None where there are none, or two."""
    at = [i for i, node in enumerate(nodes) if node.kind == "dots"]
    return (nodes[: at[0]], nodes[at[0] + 1 :]) if len(at) == 1 else None


def _all_same(a: tuple[Node, ...], b: tuple[Node, ...], same: Same, *, from_end: bool) -> bool:
    size = min(len(a), len(b))
    if from_end:
        a, b = a[len(a) - size :], b[len(b) - size :]
    return all(same(x, y) for x, y in zip(a[:size], b[:size], strict=True))


def _goes_on(head: tuple[Node, ...], tail: tuple[Node, ...], same: Same, *, quotients: bool) -> bool:
    """Whether the terms shown follow one rule: equal differences or, where both show three terms, equal quotients."""
    for step in (_difference, _quotient) if quotients else (_difference,):
        try:
            steps = [step(a, b) for a, b in (*pairwise(head), *pairwise(tail))]
            if all(same(steps[0], s) for s in steps[1:]):
                return True
        except Undefined:
            continue
    return False


def _difference(a: Node, b: Node) -> Node:
    return add(b, neg(a))


def _quotient(a: Node, b: Node) -> Node:
    return mul(b, inv(a))


def _written_out(dotted: tuple[Node, ...], full: tuple[Node, ...], same: Same) -> bool:
    """`1, 2, \\ldots, 5` against `1, 2, 3, 4, 5`: equal differences of plain numbers."""
    parts = _split(dotted)
    if parts is None or any(node.kind == "dots" for node in full):
        return False
    head, tail = parts
    if len(head) < 2 or not tail or len(full) > MAX_ITEMS:
        return False
    values = [rational(node) for node in (*head, *tail)]
    known = [v for v in values if v is not None]
    if len(known) < len(values):
        return False
    step = known[1] - known[0]
    if not step or (known[-1] - known[0]) / step != len(full) - 1:
        return False
    shown = {(v - known[0]) / step for v in known}
    if any(n.denominator != 1 or not 0 <= n < len(full) for n in shown) or len(shown) != len(known):
        return False
    return all(same(num(known[0] + i * step), node) for i, node in enumerate(full))
