"""References written as sentences, "The function is even.", and as dates, "May 5": what in them is the answer."""

from __future__ import annotations

import re

from app.verification.wording import plain_words

Date = tuple[int, int, int | None]  # month, day, year

_MONTHS = {
    name: i
    for i, names in enumerate(
        [
            "january jan",
            "february feb",
            "march mar",
            "april apr",
            "may",
            "june jun",
            "july jul",
            "august aug",
            "september sep sept",
            "october oct",
            "november nov",
            "december dec",
        ],
        start=1,
    )
    for name in names.split()
}
_MONTH = rf"({'|'.join(sorted(_MONTHS, key=len, reverse=True))})\.?"
_DAY = r"(\d{1,2})(?:\s?(?:st|nd|rd|th))?"
_WEEKDAY = r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,?\s+)?(?:on\s+)?(?:the\s+)?"
_MONTH_FIRST = re.compile(rf"{_WEEKDAY}{_MONTH}\s+(?:the\s+)?{_DAY}(?:,?\s+(\d{{4}}))?", re.IGNORECASE)
_DAY_FIRST = re.compile(rf"{_WEEKDAY}{_DAY}\s+(?:of\s+)?{_MONTH}(?:,?\s+(\d{{4}}))?", re.IGNORECASE)
_VERDICT = re.compile(r"(yes|no|true|false)\s*[,;:.\u2014-]\s*\S", re.IGNORECASE)
_STATEMENT = re.compile(
    r"(?:the|this|that|these|it|they|there|a|an|\w+ is|\w+)\b[^.,;:\d]{0,60}?\b(?:is|are)\s+(?:an?\s+|the\s+)?"
    r"([a-z]+(?:[- ][a-z]+){0,2})",
    re.IGNORECASE,
)
_COUNT = re.compile(
    r"(?:(?:there|they|we|he|she|it)\s+(?:are|is|has|have|will be|were)"
    r"|the (?:answer|value|result|total)[a-z ]{0,20}? is)\s+"
    r"(?:exactly\s+|only\s+|a total of\s+)?(-?\d[\d,]*(?:\.\d+)?(?:/\d+)?)(?:\s+[a-z]+){0,4}",
    re.IGNORECASE,
)
_ENDING = re.compile(r"the [a-z]+(?: [a-z]+)? ((?:con|di)verges|exists|vanishes)", re.IGNORECASE)
_NEGATED = re.compile(
    r"\b(?:not|never|no|none|neither|nor|less|more|least|most|or|if|than|about|between)\b", re.IGNORECASE
)


def date(text: str) -> Date | None:
    """Month, day and year (where it is given) of a text that is nothing but a date."""
    words = plain_words(text)
    match = _MONTH_FIRST.fullmatch(words)
    if match is not None:
        month, day, year = match.groups()
    else:
        match = _DAY_FIRST.fullmatch(words)
        if match is None:
            return None
        day, month, year = match.groups()
    return _MONTHS[month.lower()], int(day), int(year) if year else None


def same_date(reference: Date, answer: Date) -> bool:
    """Equal dates; a year may be added to a reference without one."""
    return reference[:2] == answer[:2] and reference[2] in (None, answer[2])


def core(reference: str) -> str | None:
    """What a reference sentence says: "even" of "The function is even.", "No" of "No, it is not prime", "12" of
    "There are 12 ways". None where it is no such sentence."""
    words = plain_words(reference)
    verdict = _VERDICT.match(words)
    if verdict is not None:
        return verdict[1]
    if " " not in words or len(words) > 200 or _NEGATED.search(words):
        return None
    for pattern in (_COUNT, _ENDING, _STATEMENT):
        found = pattern.fullmatch(words)
        if found is not None:
            return found[1]
    return None
