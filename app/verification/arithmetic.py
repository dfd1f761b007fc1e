"""Arithmetic written in a text, checked exactly: `3 * 4 = 13` is wrong whatever the answer is.

Only plain sums are read: numbers, + - * / ^, parentheses and percent, with LaTeX's and Unicode's signs for them. What
could be part of something larger (`2x + 3 = 7`, `half of 8 + 2 = 6`, `10:30 - 9 = 1:30`) is left alone, so that a sum
called wrong is wrong. A result that is rounded or cut at its last written place is right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from app.verification.numbers import decimal

SIGNS = str.maketrans({"×": "*", "✕": "*", "·": "*", "∙": "*", "∗": "*", "⋅": "*", "÷": "/", "−": "-", "–": "-"})
PLAIN = (  # how LaTeX, Markdown and words write what the grammar knows, in order
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])"), " * "),
    (re.compile(r"\\div(?![a-zA-Z])"), " / "),
    (re.compile(r"\\left|\\right|\\[,!;: ]|\\?\$"), ""),
    (re.compile(r"(?<=\d)(?:\{,\}|\\,)(?=\d{3})"), ","),
    (re.compile(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}"), r"(\1/\2)"),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"(?<=[\d)])\s*\*\*\s*(?=[\d(])"), "^"),
    (re.compile(r"\*\*"), " "),
    (re.compile(r"(?<=[\d)])(?:\s*[xX]\s*(?=\.?\d)|\s+[xX]\s+(?=\())"), " * "),
    (re.compile(r"(?<=[\d)])\((?=[\d(-])"), "*("),
    (re.compile(r"^\s*(?:[-*•]\s+|\(?\d+[.)]\s+)+"), ""),  # list marks
)
MARKS = re.compile(r"<<([^<>]*)>>")  # GSM8K's calculator: the sum is inside
NUMBER = r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+"
TOKEN = re.compile(rf"(?P<number>{NUMBER})|(?P<sign>[-+*/^()=%])")
RUN = re.compile(rf"(?:{NUMBER}|[-+*/^()=%]|\s)+")
# What may follow other words without being an equation's left side: a label's number, or `- 3` less than something.
UNSURE = re.compile(rf"\s*(?:(?:{NUMBER})|-\s.*)\s*")
TWICE = re.compile(rf"/\s*(?:{NUMBER})\s*/")  # `6 / 1/3` and `6 / 1 / 3` look alike
# Words that make the number beside them part of more than is written in signs.
JOINING = frozenset(
    """x of times twice half thrice double triple plus minus over by per than root squared cubed to from mod percent
    dozen remainder cent cents hundred thousand million billion trillion""".split()  # noqa: SIM905 - better than quotes
)
LAST_WORD, FIRST_WORD = re.compile(r"([A-Za-z]+)\W*$"), re.compile(r"\W*([A-Za-z]+)")
BEFORE, AFTER = "\"'`*[({,;:", ".,;:!?\"'`*])}"  # what may touch a sum without being part of it
MAX_DIGITS, MAX_POWER, NEARLY = 30, 30, Fraction(1, 100)


@dataclass(frozen=True, slots=True)
class Equation:
    """Two sides that a text calls equal, and whether they are."""

    text: str
    holds: bool


@dataclass(frozen=True, slots=True)
class _Side:
    """One side. `values`: % read as a hundredth and as nothing; `unit`: of its last place, where it is one number."""

    text: str
    values: tuple[Fraction, ...]
    unit: Fraction | None
    whole: bool  # neither decimals nor divisions
    first: Fraction  # the number it begins with


def equations(text: str) -> list[Equation]:
    """The sums of a text that can be read for certain, in order; `a = b = c` holds two."""
    found: list[Equation] = []
    for line in text.split("\n"):
        if "=" in line:
            for part in MARKS.findall(line) or [line]:
                found += _line(part)
    return found


def wrong(text: str) -> int:
    """How many of its sums are wrong."""
    return sum(not equation.holds for equation in equations(text))


def _line(line: str) -> list[Equation]:
    line = line.translate(SIGNS)
    for pattern, plain in PLAIN:
        line = pattern.sub(plain, line)
    return [equation for run in RUN.finditer(line) if "=" in run.group() for equation in _run(line, run)]


def _run(line: str, run: re.Match[str]) -> list[Equation]:
    """The equations of one stretch of numbers and signs."""
    parts = run.group().split("=")
    if not _apart(line[: run.start()], run.group(), BEFORE, LAST_WORD, -1):
        parts[0] = ""
    if not _apart(line[run.end() :], run.group(), AFTER, FIRST_WORD, 0):
        parts[-1] = ""
    if line[: run.start()].strip() and UNSURE.fullmatch(parts[0]):
        parts[0] = ""
    sides = [_side(part, first=i == 0, last=i == len(parts) - 1) for i, part in enumerate(parts)]
    checked = []
    for left, right in pairwise(sides):
        if left and right and (left.unit is None or right.unit is None):
            checked.append(Equation(f"{left.text} = {right.text}", _holds(left, right)))
    return checked


def _apart(outside: str, inside: str, allowed: str, word: re.Pattern[str], end: int) -> bool:
    """Whether what stands beside a stretch leaves its outermost number alone."""
    if not outside:
        return True
    touches = not inside[-1 if end == 0 else 0].isspace() and not outside[end].isspace()
    if touches and outside[end] not in allowed:
        return False
    if touches and outside[end] in ".,:" and (outside[-2:-1] if end else outside[1:2]).isdigit():
        return False
    beside = word.search(outside) if end else word.match(outside)
    return beside is None or beside[1].lower() not in JOINING


def _side(text: str, first: bool, last: bool) -> _Side | None:
    """A side that can be read as a whole; None otherwise."""
    if TWICE.search(text):
        return None
    tokens = [match.group() for match in TOKEN.finditer(text)]
    open_ones = tokens.count("(") - tokens.count(")")
    while first and open_ones > 0 and tokens[:1] == ["("]:  # a parenthesis around the whole equation
        tokens, open_ones = tokens[1:], open_ones - 1
    while first and tokens[:1] == [")"]:
        tokens, open_ones = tokens[1:], open_ones + 1
    while last and open_ones < 0 and tokens[-1:] == [")"]:
        tokens, open_ones = tokens[:-1], open_ones + 1
    while last and tokens[-1:] == ["("]:
        tokens, open_ones = tokens[:-1], open_ones - 1
    if not tokens or open_ones:
        return None
    try:
        values = {_Reading(tokens, percent).value() for percent in (Fraction(1, 100), Fraction(1))}
    except (_Unread, ZeroDivisionError):
        return None
    numbers = [token for token in tokens if token[0].isdigit() or token[0] == "."]
    alone = len(numbers) == 1 and not set(tokens) & set("+*/^()")
    unit = Fraction(1, 10 ** len(numbers[0].partition(".")[2])) if alone else None
    whole = not any("." in token or token in "/%" for token in tokens)
    return _Side(" ".join(tokens), tuple(values), unit, whole, _number(numbers[0]))


def _holds(left: _Side, right: _Side) -> bool:
    """Equal in some reading: percents, rounding, or a running chain such as `2 + 3 = 5 + 4 = 9`."""
    for a in left.values:
        if a == right.first:
            return True
        for b in right.values:
            unit = max((u for u in (left.unit, right.unit) if u is not None), default=Fraction(0))
            if a == b or abs(a - b) < unit:
                return True
            if not unit and not (left.whole and right.whole) and abs(a - b) <= NEARLY * max(abs(a), abs(b)):
                return True
    return False


class _Unread(ValueError):
    """The tokens are no expression of this grammar, or too large a one."""


def _number(token: str) -> Fraction:
    if len(token) > MAX_DIGITS:
        raise _Unread(token)
    whole, _, places = token.replace(",", "").partition(".")
    return decimal(whole or "0", places).value


class _Reading:
    """Exact value of tokens: + and -, then * and /, then signs, then ^, then %."""

    def __init__(self, tokens: list[str], percent: Fraction) -> None:
        self.tokens, self.at, self.percent = tokens, 0, percent

    def value(self) -> Fraction:
        found = self._sum()
        if self.at < len(self.tokens):
            raise _Unread(self.tokens[self.at])
        return found

    def _take(self, wanted: str) -> str | None:
        """The next token, if it is one of these signs."""
        if self.at < len(self.tokens) and self.tokens[self.at] in wanted:
            self.at += 1
            return self.tokens[self.at - 1]
        return None

    def _sum(self) -> Fraction:
        total = self._product()
        while sign := self._take("+-"):
            term = self._product()
            total += term if sign == "+" else -term
        return total

    def _product(self) -> Fraction:
        total = self._signed()
        while sign := self._take("*/"):
            factor = self._signed()
            total = total * factor if sign == "*" else total / factor
        return total

    def _signed(self) -> Fraction:
        if self._take("-"):
            return -self._power()
        return self._power()

    def _power(self) -> Fraction:
        base = self._percent()
        if not self._take("^"):
            return base
        power = self._percent()
        if power.denominator != 1 or abs(power) > MAX_POWER:
            raise _Unread("power")
        return base ** int(power)

    def _percent(self) -> Fraction:
        found = self._atom()
        return found * self.percent if self._take("%") else found

    def _atom(self) -> Fraction:
        if self._take("("):
            found = self._sum()
            if not self._take(")"):
                raise _Unread("parenthesis")
            return found
        if self.at == len(self.tokens) or not (self.tokens[self.at][0].isdigit() or self.tokens[self.at][0] == "."):
            raise _Unread("number")
        self.at += 1
        return _number(self.tokens[self.at - 1])
