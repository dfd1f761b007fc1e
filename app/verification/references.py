"""Whether a reference answer can be read: no trace can be judged against one that cannot."""

from __future__ import annotations

from functools import lru_cache

from app.verification import wording
from app.verification.limits import MAX_ANSWER
from app.verification.parser import read
from app.verification.tree import Node


def readable(reference: object) -> bool:
    """Whether traces can be judged against a reference. `\\oint_C 2\\,ds` and an empty text are none, `18` is one.

    An option's letter, a time of the day, a sentence of words alone and a number of any length can be read.
    """
    return isinstance(reference, str) and bool(reference.strip()) and _readable(reference)


@lru_cache(maxsize=65_536)
def _readable(reference: str) -> bool:
    if wording.choice(reference) is not None or wording.clock(reference) is not None:
        return True
    if len(reference) > MAX_ANSWER:
        return reference.strip(" $.+-").isdecimal()
    found = read(reference)
    return isinstance(found, Node) or found == "too-large" or _all_words(reference)


def _all_words(reference: str) -> bool:
    """Whether a reference is plain words, which traces are compared with as words."""
    return all(symbol.isalpha() or symbol.isspace() or symbol in ".,'’-()" for symbol in reference)
