"""Macros of LaTeX packages for numbers and units, written out: siunitx's `\\num`, `\\qty`, `\\SI`, `\\ang`."""

from __future__ import annotations

import re

from app.verification.limits import Unreadable
from app.verification.units import UNITS

_CALL = re.compile(
    r"\\(numlist|num|qtylist|qty|SI|si|unit|ang)(?![A-Za-z])\s*(?:\[[^\[\]]*\])?\s*\{([^{}]*)\}"
    r"(?:(?<=\})(?<!\\)\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\})?"
)
_NUMBER = re.compile(
    r"\s*([-+]?)\s*(\d{1,3}(?:[ ,]\d{3})+(?!\d)|\d*)(?:([.,])(\d+))?\s*(?:[eEdD]\s*([-+]?\d+))?\s*", re.ASCII
)
_PART = re.compile(r"\\([A-Za-z]+)|([A-Za-z]+)|\^\s*(\{?-?\d\}?)|([/.*~ ])|(.)")
_PREFIXES = frozenset(["nano", "micro", "milli", "centi", "deci", "kilo", "mega"])
_SPECIAL = {
    "percent": r"\%",
    "degree": r"^\circ ",
    "degreeCelsius": r"^\circ C",
    "celsius": r"^\circ C",
    "per": "/",
    "squared": "^2",
    "cubed": "^3",
}


def expanded(text: str) -> str:
    """The text with such macros written out: `\\num{1.5e3}` as `1.5e3`. Raises Unreadable for one it does not know."""
    return _CALL.sub(_written, text)


def _written(match: re.Match[str]) -> str:
    name, first, second = match.groups()
    rest = "" if second is None else f"{{{second}}}"
    if name == "num":
        return f" {number(first)} {rest}"
    if name == "numlist":
        return ", ".join(number(part) for part in first.split(";")) + rest
    if name == "ang":
        return _angle(first) + rest
    if name in ("si", "unit"):
        return _unit(first) + rest
    if second is None or name == "qtylist":
        raise Unreadable(f"\\{name} without a unit")
    return f" {number(first)}{_unit(second)} "


def number(text: str) -> str:
    """A number in siunitx's own notation, `1.5e3` or `1,5`, as one token. Raises Unreadable."""
    match = _NUMBER.fullmatch(text)
    if match is None or not (match[2] or match[4]):
        if match is not None and match[5]:
            return f"{match[1]}1e{match[5]}"
        raise Unreadable(f"\\num of {text!r}")
    whole = match[2].replace(" ", "").replace(",", "") or "0"
    fraction = f".{match[4]}" if match[4] else ""
    return f"{match[1]}{whole}{fraction}" + (f"e{match[5]}" if match[5] else "")


def _angle(text: str) -> str:
    """`\\ang{45;30;}`: degrees, minutes, seconds."""
    parts = [number(part) if part.strip() else "0" for part in text.split(";")]
    if len(parts) > 3:
        raise Unreadable(f"\\ang of {text!r}")
    terms = [part if i == 0 else f"{part}/{60**i}" for i, part in enumerate(parts) if i == 0 or part != "0"]
    return f"({'+'.join(terms)})^\\circ " if len(terms) > 1 else f"{terms[0]}^\\circ "


def _unit(text: str) -> str:
    """`\\kilo\\metre\\per\\hour` or `km/h` as text the lexer reads. Raises Unreadable for a macro that is no unit."""
    out, prefix, square = [], "", ""
    for match in _PART.finditer(text):
        macro, plain, exponent, sign, other = match.groups()
        if other:
            raise Unreadable(f"a unit with {other!r}")
        if macro in _PREFIXES:
            prefix = macro
        elif macro in ("square", "cubic"):
            square = "^2" if macro == "square" else "^3"
        elif macro in _SPECIAL:
            out.append(_SPECIAL[macro])
        elif macro:
            name = prefix + macro
            if name.lower() not in UNITS:
                raise Unreadable(f"the unit \\{name}")
            out.append(rf"\text{{ {name.lower()} }}{square}")
            prefix = square = ""
        elif plain:
            out.append(rf"\text{{ {plain} }}")
        elif exponent:
            out.append(f"^{exponent}")
        else:
            out.append("/" if sign == "/" else " ")
    return "".join(out)
