"""Whether an answer is the same as a reference: fast paths, then the tiers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from app.verification.limits import TooLarge
from app.verification.numbers import Number, agrees, plain

_FRACTION = re.compile(r"\s*(-?)\s*(?:\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}|(\d+)\s*/\s*(\d+))\s*%?\s*")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What comparing found. `failure` is unparsed, timeout or error where nothing could be concluded."""

    same: bool
    reason: str
    tier: str
    failure: str | None = None
    readable: bool = True


def _number(text: str) -> Number | None:
    found = plain(text.strip().rstrip("%").rstrip("\\"))
    if found is not None:
        return found
    match = _FRACTION.fullmatch(text)
    if match is None:
        return None
    top, bottom = int(match[2] or match[4]), int(match[3] or match[5])
    return Number(Fraction(-top if match[1] else top, bottom)) if bottom else None


def compare(reference: str, answer: str, *, question: str | None = None, strong: bool = True) -> Comparison:
    try:
        left, right = _number(reference), _number(answer.split("=")[-1])
        if left is None or right is None:
            words = re.match(r"\s*\$?\s*(-?[\d,]*\.?\d+)\s*[A-Za-z]", answer)
            if left is not None and words is not None:
                right = _number(words[1])
    except TooLarge:
        return Comparison(reference.strip() == answer.strip(), "too-large", "text")
    if left is not None and right is not None:
        same = agrees(left, right.value)
        return Comparison(same, "equal" if same else "different", "number")
    same = reference.replace(" ", "") == answer.replace(" ", "")
    return Comparison(same, "same-text" if same else "different", "text", readable=right is not None or same)
