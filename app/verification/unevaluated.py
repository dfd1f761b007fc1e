"""Integrals and limits that stand unevaluated: equal where their bounds and bodies are, however they are written."""

from __future__ import annotations

from collections.abc import Callable

from app.verification.tree import Node, replace, sym, walk

Same = Callable[[Node, Node], bool]
_MAX_PARTS = 4


def has_primitive(node: Node) -> bool:
    """Whether an integral without bounds stands in the expression: it has no value to compute."""
    return any(n.kind == "big" and n.value == "primitive" for n in walk(node))


def matched(reference: Node, answer: Node, same: Same) -> tuple[Node, Node] | None:
    """Both expressions with each integral, limit or infinite sum as a symbol, equal ones as the same symbol.

    None where the one has such a part that the other has not.
    """
    left, right = _parts(reference), _parts(answer)
    if not left or len(left) != len(right) or len(left) > _MAX_PARTS:
        return None
    for i, part in enumerate(left):
        other = next((r for r in right if _same_part(part, r, same)), None)
        if other is None:
            return None
        right.remove(other)
        name = sym(f"part {i}")
        reference, answer = replace(reference, part, name), replace(answer, other, name)
    return reference, answer


def _parts(node: Node) -> list[Node]:
    """The outermost such parts, each once."""
    if node.kind == "big":
        return [node]
    found: list[Node] = []
    for arg in node.args:
        found += [part for part in _parts(arg) if part not in found]
    return found


def _same_part(a: Node, b: Node, same: Same) -> bool:
    """One kind, equal bounds, and equal bodies once both call their variable the same."""
    if a.value != b.value:
        return False
    if a == b:
        return True
    (x, low, high, body), (y, other_low, other_high, other_body) = a.args, b.args
    if any(n.kind == "big" for n in (*walk(body), *walk(other_body))) and body != other_body:
        return False
    if a.value == "primitive" and x != y:
        return False
    common = sym("bound variable")
    return (
        _same_bound(low, other_low, same)
        and _same_bound(high, other_high, same)
        and same(replace(body, x, common), replace(other_body, y, common))
    )


def _same_bound(a: Node, b: Node, same: Same) -> bool:
    if any(n.kind == "const" and n.value == "inf" for n in (*walk(a), *walk(b))):
        return a == b
    return a == b or same(a, b)
