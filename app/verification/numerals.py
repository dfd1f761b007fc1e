"""How numbers are written: one pattern for numbers in prose, and numbers in words turned into figures.

`NUMERAL` spans a number as a reader would: in "2 3/4 cups", "1 234 people", "5 × 10³", "7 lakh" the whole of it. What
it spans is read by parser.py, so that a number in a sentence and a number in a box mean the same.
"""

from __future__ import annotations

import re
from fractions import Fraction

from app.verification.units import COUNT_WORDS, MULTIPLIERS

MINUS = "-\u2212\u2013\ufe63\uff0d"
_SPACE = "[ \u00a0\u2009\u202f]"
_VULGAR = "[\u00bc-\u00be\u2150-\u215e]"
_SUPER = "[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]"
_FIGURES = rf"""(?:
      \d{{1,3}}(?:\.\d{{3}})+,\d+(?![\d,]) | \d{{1,3}}(?:\.\d{{3}}){{2,}}(?![\d.,])
    | \d{{1,2}}(?:,\d{{2}}){{1,8}},\d{{3}}(?![\d,])(?:\.\d+)?
    | \d{{1,3}}(?:(?:,|\{{,\}}|['\u2019]|{_SPACE})\d{{3}}){{1,30}}(?![\d,])(?:\.\d+)?
    | \d+(?:,\d+)+ | \d+(?:\.\d+)? | \.\d+ )"""
NUMERAL = re.compile(
    rf"""
    (?<![\w.])(?:(?<![)\]}}\w])[{MINUS}]\s?)?[$\u20ac\u00a3]?\s?[{MINUS}]?
    (?: {_FIGURES}
        (?: \s?{_VULGAR} | {_SUPER}+
          | [eE][-+]?\d+(?!\w)
          | \s\d+/\d+(?![\d./])
          | \s?/\s?\d+(?![\d.])
          | \s?(?:[\u00d7\u00b7\u22c5*xX]|\\times|\\cdot)\s?10
            (?:\s?\^\s?\{{?[{MINUS}+]?\d+\}}?|[\u207a\u207b]?{_SUPER}+)
          | \s?\^\s?\{{?[{MINUS}]?\d+\}}? )?
      | {_VULGAR} )
    (?:\s(?:hundred|thousand|million|billion|trillion|lakh|crore|dozen)s?\b)*
    (?:\s?\\?%|\s(?:percent|per\ cent)\b)?
    """,
    re.VERBOSE,
)

_ORDINALS = {
    "half": 2,
    "halves": 2,
    "third": 3,
    "thirds": 3,
    "fourth": 4,
    "fourths": 4,
    "quarter": 4,
    "quarters": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
    "tenth": 10,
    "eleventh": 11,
    "twelfth": 12,
    "sixteenth": 16,
    "twentieth": 20,
    "hundredth": 100,
    "thousandth": 1000,
    "millionth": 10**6,
}
_PARTS = _ORDINALS | {f"{word}s": n for word, n in _ORDINALS.items() if word.endswith("th")}
_SCALES = {word: n for word, n in MULTIPLIERS.items() if len(word) > 1}
_DIGIT_WORDS = "one|two|three|four|five|six|seven|eight|nine"
_TENS_WORDS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_COUNT = rf"(?:(?:{_TENS_WORDS})[- ](?:{_DIGIT_WORDS})|{'|'.join(sorted(COUNT_WORDS, key=len, reverse=True))})\b"
_SCALE = rf"(?:{'|'.join(sorted(_SCALES, key=len, reverse=True))})\b"
_PART = rf"(?:{'|'.join(sorted(_PARTS, key=len, reverse=True))})\b"
_WORDS = re.compile(
    rf"\b(?:{_COUNT}|an? (?={_SCALE}))(?:(?:[- ]*{_SCALE})+(?:(?:[- ]and)?[- ]{_COUNT})?){{0,8}}(?!\.\d)", re.IGNORECASE
)
_FRACTION = re.compile(rf"(?<![\d.,/])\b(\d{{1,6}}|an?)[- ]({_PART})", re.IGNORECASE)
_AND_FRACTION = re.compile(rf"(?<![\d.,/])\b(\d{{1,9}}) and (\d{{1,6}}|an?)[- ]({_PART})", re.IGNORECASE)
_HALF = re.compile(r"^half\b(?=$|\s+(?:of|an?|the|[\d(\\$]))", re.IGNORECASE)
_OF = re.compile(r"(\d/\d+)\s+of\s+(?=[-\d(\\$])")
_FACTORIAL = re.compile(r"(\d+|\b[a-z]|\))\s+factorial\b", re.IGNORECASE)
_TIMES = re.compile(r"\b(twice|double|thrice|triple)\s+(?=[\d(\\$])", re.IGNORECASE)
_TRIGGER = re.compile(
    rf"\b(?:{_DIGIT_WORDS}|{_TENS_WORDS}|{'|'.join(COUNT_WORDS)}|{'|'.join(_PARTS)}|{'|'.join(_SCALES)}"
    r"|factorial|twice|double|thrice|triple)\b",
    re.IGNORECASE,
)


def figures(text: str) -> str:
    """The text with its numbers in words as figures: "two and a half" is `2 1/2`, "7 factorial" is `7!`.

    Words that only may be numbers stay: "a second", "one of them", "a quarter of 8".
    """
    if _TRIGGER.search(text) is None:
        return text
    text = _WORDS.sub(lambda match: _count(match[0]), text)
    text = _HALF.sub("1/2", text)
    text = _AND_FRACTION.sub(_mixed, text)
    text = _FRACTION.sub(lambda match: _part(match[1], match[2]), text)
    text = _OF.sub(r"\1*", text)
    text = _TIMES.sub(lambda match: "2*" if match[1].lower() in ("twice", "double") else "3*", text)
    return _FACTORIAL.sub(r"\1!", text)


def _count(words: str) -> str:
    """ "one hundred and twenty-three" as `123`."""
    total = group = 0
    for word in re.split(r"[- ]+", words.lower().strip()):
        if word == "and":
            continue
        if word in ("a", "an"):
            group = 1
        elif word not in _SCALES:
            group += COUNT_WORDS[word]
        elif _SCALES[word] in (12, 100):
            group = max(group, 1) * _SCALES[word]
        elif group or not total:
            total, group = total + max(group, 1) * _SCALES[word], 0
        else:
            total *= _SCALES[word]
    return str(total + group)


def _part(top: str, word: str) -> str:
    value = Fraction(1 if top.lower() in ("a", "an") else int(top), 1)
    return f"{value}/{_PARTS[word.lower()]}"


def _mixed(match: re.Match[str]) -> str:
    return f"{match[1]} {_part(match[2], match[3])}"
