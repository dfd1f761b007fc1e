"""What a plain word means inside an answer: a function, connective, unit, count, product of letters, or noun."""

from __future__ import annotations

import re

from app.verification.units import COUNT_WORDS, EMPTY_WORDS, LETTERS, MULTIPLIERS, UNITS

FUNCTIONS = {
    name: name
    for name in [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "arcsin",
        "arccos",
        "arctan",
        "arccot",
        "arcsec",
        "arccsc",
        "sinh",
        "cosh",
        "tanh",
        "coth",
        "arsinh",
        "arcosh",
        "artanh",
        "ln",
        "log",
        "exp",
        "sqrt",
        "cbrt",
        "abs",
        "floor",
        "ceil",
        "gcd",
        "lcm",
        "min",
        "max",
        "det",
        "diag",
        "sgn",
        "lg",
    ]
} | {
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "arcsinh": "arsinh",
    "arccosh": "arcosh",
    "arctanh": "artanh",
    "asinh": "arsinh",
    "acosh": "arcosh",
    "atanh": "artanh",
    "ceiling": "ceil",
    "tg": "tan",
    "ctg": "cot",
    "arctg": "arctan",
    "cosec": "csc",
    "sign": "sgn",
    "binomial": "binom",
    "comb": "binom",
}
GREEK = frozenset(
    [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "varepsilon",
        "zeta",
        "eta",
        "theta",
        "vartheta",
        "iota",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
        "rho",
        "varrho",
        "sigma",
        "tau",
        "upsilon",
        "phi",
        "varphi",
        "chi",
        "psi",
        "omega",
        "Gamma",
        "Delta",
        "Theta",
        "Lambda",
        "Xi",
        "Pi",
        "Sigma",
        "Upsilon",
        "Phi",
        "Psi",
        "Omega",
        "ell",
        "hbar",
    ]
)
_CONSTANTS = {"pi": "pi", "infinity": "inf", "inf": "inf", "infty": "inf", "oo": "inf"}
_OPERATORS = {
    "and": "and",
    "or": "or",
    "per": "/",
    "times": "*",
    "plus": "+",
    "minus": "-",
    "choose": "choose",
    "where": "where",
    "for": "where",
    "if": "where",
    "when": "where",
    "with": "where",
    "such": "where",
    "provided": "where",
    "percent": "%",
    "percentage": "%",
    "pct": "%",
    "union": r"\cup",
    "by": "*",
    "to": "to",
    "mod": "mod",
    "modulo": "mod",
    "over": "/",
}
_GLUED = re.compile(
    r"([A-Za-z]?)(arc(?:sin|cos|tan)|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|ln|log|sqrt|exp|pi)([xyzn]{0,2})"
)
_SHORT_ENGLISH = frozenset(
    [
        "is",
        "are",
        "was",
        "the",
        "no",
        "yes",
        "not",
        "but",
        "has",
        "had",
        "can",
        "its",
        "day",
        "one",
        "all",
        "of",
        "on",
        "at",
        "by",
        "an",
        "as",
        "be",
        "do",
        "he",
        "it",
        "so",
        "up",
        "we",
        "us",
        "my",
        "me",
        "am",
        "go",
        "if",
        "old",
        "new",
        "men",
        "man",
        "car",
        "cup",
        "pie",
        "egg",
        "hen",
        "cow",
        "box",
        "red",
        "odd",
        "ten",
        "two",
        "six",
        "pen",
        "toy",
        "hat",
        "boy",
        "cat",
        "dog",
        "ate",
        "win",
        "won",
        "any",
        "who",
        "how",
        "why",
        "out",
        "off",
        "non",
        "none",
    ]
)


def classify(word: str, *, after_value: bool, in_text: bool) -> list[tuple[str, str]]:
    """(kind, value) of the tokens a run of letters stands for.

    Args:
        word: the letters as written.
        after_value: whether a number, unit, or `/` stands before, so that a unit may follow.
        in_text: inside `\\text{}` or its like, where letters are words and not products.
    """
    lower = word.lower()
    if lower in _OPERATORS and (word == lower or in_text or len(word) > 2):
        return [("op", _OPERATORS[lower])]
    if len(word) == 1:
        if in_text and after_value and word in LETTERS:
            return [("unit", LETTERS[word])]
        return [("sym", word)]
    if lower in ("usd", "eur", "gbp", "inr") and not after_value:
        return [("currency", {"usd": "dollar", "eur": "euro", "gbp": "gbp", "inr": "rupee"}[lower])]
    if lower in MULTIPLIERS and after_value and len(word) > 1:
        return [("times", lower)]
    unit = word if word in UNITS else lower
    if unit in UNITS and (after_value or (in_text and lower not in FUNCTIONS)):
        return [("unit", unit)]
    if lower in FUNCTIONS and (word == lower or in_text):
        return [("fn", FUNCTIONS[lower])]
    if lower in _CONSTANTS:
        return [("const", _CONSTANTS[lower])]
    if word in GREEK:
        return [("sym", word)]
    if lower in ("square", "sq", "cubic", "squared", "cubed"):
        return [("power", lower)]
    if lower in COUNT_WORDS:
        return [("num", str(COUNT_WORDS[lower]))]
    if in_text or lower in _SHORT_ENGLISH or lower in EMPTY_WORDS:
        return [("noun", lower)]
    return _letters(word)


def _letters(word: str) -> list[tuple[str, str]]:
    """A product of letters, as in `xy` or `2sinx`; a longer word is a noun."""
    if word.isupper() and len(word) <= 5:
        return [("sym", word)]
    glued = _GLUED.fullmatch(word)
    if glued:
        middle = ("const", "pi") if glued[2] == "pi" else ("fn", FUNCTIONS[glued[2]])
        return [*(("sym", c) for c in glued[1]), middle, *(("sym", c) for c in glued[3])]
    if len(word) <= 3:
        return [("sym", c) for c in word]
    return [("noun", word.lower())]
