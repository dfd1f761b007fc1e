"""The tree an answer is parsed to.

Kinds of expression:
    num (value: Number), sym (value: name), const (value: pi, e, i, inf), add, mul (both of any arity), neg, inv (1/x),
    pow (base, exponent), func (value: name), pm (value: "+-" or "-+"), pct, unit (value: name), noun (value: word),
    call (value: name and argument, on the left of a definition), big (value: sum, prod, int, lim,
    primitive; see commands.py)
Kinds of answer:
    seq (value: its brackets, as "()", "[)", "{}", "<>", "" for a bare list, "or" for alternatives), rel (value: its
    operators), union, inter, minus (sets), build (head, condition), matrix of row, ratio, base (value: digits, base),
    cong (left side or true, residues, modulus),
    space (value: R, Z, ...), empty, dots, true (a condition that only declares an integer parameter)
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

from app.verification.numbers import Number


class Node(NamedTuple):
    """One node: immutable, hashable, compared by structure."""

    kind: str
    args: tuple[Node, ...] = ()
    value: Any = None


def num(value: int | Fraction | Number) -> Node:
    return Node("num", (), value if isinstance(value, Number) else Number(Fraction(value)))


def sym(name: str) -> Node:
    return Node("sym", (), name)


def const(name: str) -> Node:
    return Node("const", (), name)


def func(name: str, *args: Node) -> Node:
    return Node("func", args, name)


def add(*args: Node) -> Node:
    """A sum, flattened, so that a long sum is wide and not deep."""
    return _flat("add", args)


def mul(*args: Node) -> Node:
    """A product, flattened."""
    return _flat("mul", args)


def _flat(kind: str, args: tuple[Node, ...]) -> Node:
    if len(args) == 1:
        return args[0]
    if any(a.kind == kind for a in args):
        args = tuple(x for a in args for x in (a.args if a.kind == kind else (a,)))
    return Node(kind, args)


def neg(x: Node) -> Node:
    return Node("neg", (x,))


def inv(x: Node) -> Node:
    return Node("inv", (x,))


def power(base: Node, exponent: Node) -> Node:
    return Node("pow", (base, exponent))


def seq(items: tuple[Node, ...] | list[Node], brackets: str) -> Node:
    return Node("seq", tuple(items), brackets)


ONE, ZERO = num(1), num(0)
PI, E, I, INF = const("pi"), const("e"), const("i"), const("inf")  # noqa: E741 (the imaginary unit)


def walk(node: Node) -> Iterator[Node]:
    """Every node of the tree, without recursion."""
    stack = [node]
    while stack:
        top = stack.pop()
        yield top
        stack.extend(top.args)


def symbols(node: Node) -> set[str]:
    """Names of the free symbols; the index of a sum is not one."""
    if node.kind == "sym":
        return {node.value}
    if node.kind == "big":
        variable, low, high, body = node.args
        return symbols(low) | symbols(high) | (symbols(body) - {variable.value})
    return set().union(*map(symbols, node.args))


def replace(node: Node, old: Node, new: Node) -> Node:
    """The tree with every leaf equal to `old` replaced."""
    if node == old:
        return new
    if not node.args:
        return node
    return Node(node.kind, tuple(replace(a, old, new) for a in node.args), node.value)
