"""The last tier: integrals, limits and infinite sums, with sympy, on trees that our own parser built.

Runs only inside the worker process of sandbox.py. No text reaches sympy: every node is mapped to a constructor by hand.
"""

from __future__ import annotations

from typing import Any

import sympy

from app.verification.limits import Undefined

_FUNCTIONS: dict[str, Any] = {
    "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "cot": sympy.cot, "sec": sympy.sec, "csc": sympy.csc,
    "arcsin": sympy.asin, "arccos": sympy.acos, "arctan": sympy.atan, "arccot": sympy.acot, "sinh": sympy.sinh,
    "cosh": sympy.cosh, "tanh": sympy.tanh, "ln": sympy.log, "abs": sympy.Abs, "floor": sympy.floor,
    "ceil": sympy.ceiling,
    "factorial": sympy.factorial, "binom": sympy.binomial, "min": sympy.Min, "max": sympy.Max, "sgn": sympy.sign,
}  # fmt: skip
_CONSTANTS = {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "inf": sympy.oo}


def to_sympy(tree: list[Any]) -> Any:
    """The sympy expression of a tree, [kind, args, value], as sandbox.py sends it. Raises Undefined for other kinds."""
    kind, children, value = tree
    if kind == "num":
        return sympy.Rational(value[0], value[1])
    if kind == "sym":
        return sympy.Symbol(value, real=True)
    if kind == "const":
        return _CONSTANTS[value]
    args = [to_sympy(c) for c in children]
    if kind == "add":
        return sympy.Add(*args)
    if kind == "mul":
        return sympy.Mul(*args)
    if kind in ("neg", "inv", "pct"):
        return {"neg": -args[0], "inv": 1 / args[0], "pct": args[0] / 100}[kind]
    if kind == "pow":
        return sympy.Pow(*args)
    if kind == "big":
        return _big(value, *args)
    if kind == "func" and value == "root":
        return sympy.real_root(args[1], args[0]) if args[0] != 2 else sympy.sqrt(args[1])
    if kind == "func" and value == "log":
        return sympy.log(args[1]) / sympy.log(args[0])
    if kind == "func" and value in _FUNCTIONS:
        return _FUNCTIONS[value](*args)
    raise Undefined(f"{kind} {value} has no symbolic form")


def _big(name: str, variable: Any, low: Any, high: Any, body: Any) -> Any:
    if name == "int":
        return sympy.integrate(body, (variable, low, high))
    if name == "lim":
        return sympy.limit(body, variable, low, "+-" if low.is_finite else "+")
    if name not in ("sum", "prod"):
        raise Undefined(f"{name} has no symbolic form")
    return (sympy.Sum if name == "sum" else sympy.Product)(body, (variable, low, high)).doit()


def same(reference: list[Any], answer: list[Any]) -> bool | None:
    """Whether two expressions are equal; None where sympy cannot tell, or one has no finite value."""
    left, right = to_sympy(reference).doit(), to_sympy(answer).doit()
    bad = (sympy.nan, sympy.zoo, sympy.oo, -sympy.oo)
    if left in bad or right in bad or left.has(sympy.nan) or right.has(sympy.nan):
        return None
    if left == right:
        return True
    difference = left - right
    if not difference.free_symbols:
        size = sympy.Abs(difference).evalf(60)
        scale = max(sympy.Abs(left).evalf(20), 1)
        return bool(size < scale * sympy.Float(10) ** -40)
    found = sympy.simplify(difference).equals(0)
    return None if found is None else bool(found)


def decimal(tree: list[Any]) -> str | None:
    """A closed expression to 60 digits, None where it is not a finite real."""
    value = to_sympy(tree).doit().evalf(60)
    return str(value) if value.is_Float or value.is_Integer or value.is_Rational else None
