"""Whether an answer is the same as a reference, decided by what kind of answer the reference is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from app.verification import wording
from app.verification.limits import MAX_ANSWER, TooCostly, TooLarge, Undefined
from app.verification.match import Matcher
from app.verification.normalise import normalise
from app.verification.numbers import Number, agrees, plain
from app.verification.parser import read
from app.verification.relations import FalseChain
from app.verification.sandbox import SandboxError, SandboxTimeout
from app.verification.sentence import sound
from app.verification.statements import core, date, same_date
from app.verification.tree import I, Node, replace, sym, symbols, walk
from app.verification.values import Tally

_DECIMAL_COMMA = re.compile(r"\$?-?\d+,\d+\$?")
_LOOSE_SPACE = re.compile(r"(?<!\d)\s+|\s+(?!\d)")  # any but between two digits
_RATIO = re.compile(r"\b(?:ratio|scale|odds|proportion)", re.IGNORECASE)
_STRANGE = re.compile(
    r"[@~^_|#&?<>=\u2264\u2265\u2260\u2248\u00b1\u2213\u2212\u2013!]"
)  # signs that are no punctuation: `4 @` is not `4`
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2}|[^\x00-\xff]{2}|[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]")
_NAN = re.compile(r"\W*nan\W*", re.IGNORECASE)
_LONG_DIGITS = re.compile(r"([-+]?)0*(\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What comparing found.

    Attributes:
        same: whether the answer is right.
        reason: a stable code.
        tier: what decided: number, words, exact, modular, numeric, symbolic, form or none.
        failure: unparsed, timeout or error, where nothing could be concluded.
        readable: whether the answer was read as mathematics, or matched as words.
    """

    same: bool
    reason: str
    tier: str
    failure: str | None = None
    readable: bool = True


_EQUAL = Comparison(True, "equal", "number")
_OTHER = Comparison(False, "different", "number")


@lru_cache(maxsize=4096)
def _plain_reference(reference: str) -> Number | None:
    return plain(reference) if len(reference) <= MAX_ANSWER else None


def compare(reference: str, answer: str, *, question: str | None = None) -> Comparison:
    """Compare one answer with a reference. Never raises for what the answer holds."""
    try:
        wanted = _plain_reference(reference)
        if wanted is not None and len(answer) <= MAX_ANSWER:
            number = plain(answer)
            if number is not None:
                same = agrees(wanted, number.value)
                if same or "," not in answer:
                    return _EQUAL if same else _OTHER
    except TooLarge:
        return _long(reference, answer)
    return _compare(reference, answer, question)


def _long(reference: str, answer: str) -> Comparison:
    """Numbers too long for arithmetic are compared digit by digit."""
    left, right = (_LONG_DIGITS.fullmatch(text.strip(" $.")) for text in (reference, answer))
    if left and right:
        same = left[2] == right[2] and (left[1] == "-") == (right[1] == "-")
        return Comparison(same, "equal" if same else "different", "number")
    same = reference.strip() == answer.strip()
    return Comparison(same, "equal" if same else "too-large", "form", None if same else "unparsed")


def _compare(reference: str, answer: str, question: str | None) -> Comparison:
    result = _as_written(reference, answer, question)
    if result.same or result.tier not in ("words", "none"):
        return result
    inner = core(reference)
    if inner is None:
        return result
    said = compare(inner, answer, question=question)
    return said if said.same or not result.readable else result


def _as_written(reference: str, answer: str, question: str | None) -> Comparison:
    if len(answer) > MAX_ANSWER or len(reference) > MAX_ANSWER:
        return _long(reference, answer)
    if _NAN.fullmatch(answer):
        return Comparison(False, "undefined", "words")
    words = _words(reference, answer, question)
    if words is not None:
        return words
    wanted, found = read(reference), read(answer)
    if "empty" in (getattr(wanted, "kind", ""), getattr(found, "kind", "")):
        same = wanted == found or wording.says_none(reference) or wording.says_none(answer)
        return Comparison(same, "equal" if same else "different", "words" if wanted != found else "form")
    if isinstance(wanted, str):
        return _unread(reference, answer, wanted)
    if isinstance(found, str):
        return _unread(reference, answer, found)
    if _wordy(wanted):
        same = wording.same_words(reference, answer) or (not _wordy(found) and wanted == found)
        return Comparison(same, "equal" if same else "different", "words", readable=same)
    if _wordy(found):
        return Comparison(False, "different", "words", readable=False)
    result = _readings(reference, answer, wanted, found, question)
    if result.same and _WORD.search(answer) and not sound(answer) and sound(reference):
        return Comparison(False, "unreadable", "none", "unparsed", readable=False)
    return result


def _words(reference: str, answer: str, question: str | None) -> Comparison | None:
    """Multiple choice and clock times, which are recognised by their spelling; None where the reference is neither."""
    letter = wording.choice(reference)
    if letter is not None:
        chosen = wording.chosen(answer)
        if chosen is not None:
            return Comparison(chosen == letter, "equal" if chosen == letter else "different", "words")
        listed = wording.options(question) if question else {}
        if letter in listed:
            return compare(listed[letter], answer)
        return None
    day = date(reference)
    if day is not None:
        other_day = date(answer)
        same = other_day is not None and same_date(day, other_day)
        return Comparison(same, "equal" if same else "different", "words", readable=other_day is not None)
    if ":" in reference or "m" in reference.lower() or "o" in reference:
        time = wording.clock(reference)
        if time is not None:
            other = wording.clock(answer)
            if other is not None and not _asks_ratio(question):
                same = wording.same_time(time, other)
                return Comparison(same, "equal" if same else "different", "words")
            if time[1] is not None and time[1] != "24":
                return Comparison(False, "different", "words", readable=other is not None)
    return None


def _asks_ratio(question: str | None) -> bool:
    """Whether `2:40` may be a ratio: two times of day are compared as such where the question speaks of none."""
    return question is not None and _RATIO.search(question) is not None


def _unread(reference: str, answer: str, why: str) -> Comparison:
    """One side is no mathematics: equal words, or nothing can be said."""
    strange = _STRANGE.search(answer) is not None and _STRANGE.search(reference) is None
    if (not strange and wording.same_words(reference, answer)) or _squeezed(reference) == _squeezed(answer):
        return Comparison(True, "equal", "words")
    return Comparison(False, why, "none", "unparsed", readable=False)


def _squeezed(text: str) -> str:
    try:
        return _LOOSE_SPACE.sub("", normalise(text))
    except ValueError:
        return text


@lru_cache(maxsize=4096)
def _wordy(node: Node) -> bool:
    """Whether an answer is words and no quantity."""
    kinds = {n.kind for n in walk(node)}
    return "noun" in kinds and not kinds & {"num", "const", "rel", "base"}


def _readings(reference: str, answer: str, wanted: Node, found: Node, question: str | None) -> Comparison:
    """Compare the trees; where the first reading fails, the other readings of commas."""
    wanted, found = _imaginary(wanted, found), _imaginary(found, wanted)
    result = _match(wanted, found, question)
    if not result.same and _as_letters(wanted, found):
        left, right = read(reference, False, True), read(answer, False, True)
        if isinstance(left, Node) and isinstance(right, Node) and (left, right) != (wanted, found):
            result = _match(left, right, question)
    if result.same or "," not in reference + answer:
        return result
    for left, right in (
        (wanted, read(answer, True)),
        (read(reference, True), found),
        (read(reference, True), read(answer, True)),
    ):
        if isinstance(left, Node) and isinstance(right, Node) and (left, right) != (wanted, found):
            other = _match(left, right, question)
            if other.same:
                return other
    if _DECIMAL_COMMA.fullmatch(answer.strip()) and wanted.kind in ("num", "neg", "mul", "add"):
        swapped = read(answer.replace(",", "."))
        if isinstance(swapped, Node):
            other = _match(wanted, swapped, question)
            if other.same:
                return other
    return result


def _imaginary(node: Node, other: Node) -> Node:
    """`2 + 3I` and `2 + 3j` as complex numbers, where the other side is one and has no such symbol of its own."""
    if node.kind not in ("add", "mul", "neg", "sym", "rel", "seq"):
        return node
    names = symbols(node) & {"I", "j"}
    if len(names) != 1 or names & symbols(other) or I not in walk(other) or I in walk(node):
        return node
    return replace(node, sym(names.pop()), I)


def _as_letters(wanted: Node, found: Node) -> bool:
    """Whether a letter such as `m`, or the letters of `mg`, are symbols on one side and a unit on the other."""
    for one, other in ((wanted, found), (found, wanted)):
        short = [n.value for n in walk(one) if n.kind == "unit" and len(n.value) <= 2]
        if short and not symbols(other).isdisjoint({*"".join(short), "L"}):
            return True
    return False


def _match(wanted: Node, found: Node, question: str | None) -> Comparison:
    tally = Tally()
    try:
        same = Matcher(tally, question).same(wanted, found)
    except FalseChain:
        return Comparison(False, "false-chain", tally.tier)
    except Undefined:
        return Comparison(False, "undefined", tally.tier)
    except TooCostly:
        return Comparison(False, "too-costly", tally.tier, "unparsed")
    except SandboxTimeout:
        return Comparison(False, "deadline", tally.tier, "timeout")
    except SandboxError:
        return Comparison(False, "worker-failed", tally.tier, "error")
    return Comparison(same, "equal" if same else "different", tally.tier)
