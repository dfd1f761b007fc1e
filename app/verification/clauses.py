"""Cutting an answer out of a sentence: where it ends, which `$` are mathematics and which are money."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from app.verification.numerals import NUMERAL

_MATH = re.compile(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<!\\)\$((?:[^$\\]|\\.)+?)\$", re.DOTALL)
_JOIN = re.compile(r"\s*(?:,?\s*(?:and|or)|,|;)\s*")
_PROSE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{2,} +[A-Za-z]{2,}")
_COMMANDS = re.compile(r"\\(?:text|mathrm|textbf|mbox|operatorname)\s*\{[^{}]*\}")
_END = re.compile(
    r"\n|[.!?](?=\s|$|\*)|\u3002|\s(?:because|since|as it|which|where|so that|I hope|\(because|as required|when)\b|;\s"
)
_ARITHMETIC = re.compile(r"[-+*/^()=\d\s$%,.\u00d7\u00f7\u2212]+$")
_GROUP = re.compile(r"[(\[{][^()\[\]{}]{1,80},[^()\[\]{}]{1,80}[)\]}]")
_WHOLE_BEFORE = re.compile(r"-?\d+[ ]$")  # the whole part of `2 \frac{3}{4}`
_ORDINAL = re.compile(r"(?:st|nd|rd|th)\b")
_EQUATED = re.compile(r"(?:^|[A-Za-z]{2,}[,:]?\s+|[.:;,]\s+)\$?(-?[\d.,]*\d)\s*=\s*$")
_OPEN_SUM = re.compile(
    r"(?<![-+*/\u00d7\d.=(])(?<![-+*/\u00d7=(] )\d+(?:\.\d+)?(?: ?[-+*/\u00d7] ?\d+(?:\.\d+)?)* ?[-+*/\u00d7] ?$"
)
_ASIDE = re.compile(
    r"(?!.*\b(?:is|are|was|gives?|leaves?|makes?|equals?|gets?|leaving|so|then|and|plus|minus|but|or|has|have|total)\b)"
    r"\s?[A-Za-z%/ -]*\b(?:to|for|in|of|after|on|per|at|each|from|during|the|every|over|with|when|if)\b[A-Za-z ]*[$-]?",
    re.IGNORECASE,
)
_CALCULATOR = re.compile(r"<<[^<>]*>>")
_PLAIN_FORMULA = re.compile(r"[-+(\[{|$\\]*\s*[\d.\\({\[|$\u221a\u03c0-]|[A-Za-z](?:_\w)?\s*(?:[=^+*/<>(-]|$)|[-+]?\d")
_WRAPPERS = (("**", "**"), ("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$"), ("`", "`"), ("__", "__"))


def is_formula(text: str) -> bool:
    """Whether a clause begins like a formula or a number and not like prose."""
    return _PLAIN_FORMULA.match(text.lstrip("* ")) is not None


def is_prose(text: str) -> bool:
    """Whether two plain words stand side by side outside of `\\text{}`."""
    return _PROSE.search(_COMMANDS.sub("", text) if "\\" in text else text) is not None


def uncalculated(line: str) -> str:
    """The line without the calculator's marks of GSM8K, `<<9*2=18>>`."""
    return _CALCULATOR.sub("", line) if "<<" in line else line


def unwrap(text: str) -> str:
    """The text without math delimiters, emphasis, end punctuation or quotes around the whole of it."""
    before = None
    while before != text:
        before = text
        text = text.strip().rstrip(".").strip() if not text.rstrip().endswith("..") else text.strip()
        for opening, closing in _WRAPPERS:
            inner = text[len(opening) : len(text) - len(closing)]
            wrapped = len(text) > len(opening) + len(closing) and text.startswith(opening) and text.endswith(closing)
            if wrapped and (opening not in inner or opening == "\\("):
                text = inner
    return text


def clip(text: str, *, whole: bool = False) -> str:
    """The answer that a clause begins with: a run of formulas, or words up to the end of the sentence.

    With `whole`, the text is known to be nothing but the answer, and only its wrapping is taken off.
    """
    text = text.strip().removeprefix("**").lstrip(": \n")
    if whole:
        return unwrap(text)
    bold = re.match(r"([^*\n]{1,200})\*\*", text)
    if bold and "$" not in bold[1]:
        return unwrap(bold[1])
    maths = _MATH.match(text)
    if maths is not None and not is_prose(maths[0]):
        return _formulas(text, maths)
    end = _END.search(text)
    return unwrap(text[: end.start()] if end else text)


def _formulas(text: str, first: re.Match[str]) -> str:
    """Formulas joined by commas, "and" or "or", with a unit or percent sign after the last; delimiters dropped."""
    parts, at = [_inside(first)], first.end()
    while True:
        joint = _JOIN.match(text, at)
        following = _MATH.match(text, joint.end()) if joint else None
        if joint is None or following is None:
            break
        parts += [r" \text{ or } " if "or" in joint[0] else ", ", _inside(following)]
        at = following.end()
    rest = text[at:]
    end = _END.search(rest)
    words = (rest[: end.start()] if end else rest).strip(" .*")
    if (
        len(parts) == 1
        and words
        and re.fullmatch(r"\\?%|[A-Za-z\u00b0][A-Za-z ]{0,30}(?:\^?\{?[23]\}?)?", words)
        and len(words.split()) <= 3
    ):
        return f"{parts[0]} {words}"
    return "".join(parts)


def _inside(match: re.Match[str]) -> str:
    return next(g for g in match.groups() if g is not None).strip()


@dataclass(frozen=True, slots=True)
class Span:
    """A formula or number of a line, and where it stands."""

    text: str
    start: int
    end: int


def last_formula(line: str) -> Span | None:
    """The last delimited formula of a line; formulas joined by commas, "and" or "or" are one."""
    found: Span | None = None
    for start, end, content in math_spans(line):
        joint = _JOIN.fullmatch(line, found.end, start) if found else None
        if found and joint:
            content = found.text + (r" \text{ or } " if "or" in joint[0] else ", ") + content
            start = found.start
        found = Span(content, start, end)
    return found


def math_spans(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and content of each delimited formula of a text; `$5 and $6` is money, not a formula."""
    at = 0
    while ("$" in text or "\\" in text) and (match := _MATH.search(text, at)):
        content = _inside(match)
        if is_prose(content) or (match[4] is not None and match[4][-1:].isspace() and content[:1].isdigit()):
            at = match.start() + 1
            continue
        yield match.start(), match.end(), content
        at = match.end()


def last_tuple(line: str) -> Span | None:
    """The last bracketed list of a line written without delimiters, `(2, 3)`."""
    found = [m for m in _GROUP.finditer(line) if not is_prose(m[0]) and any(c.isdigit() for c in m[0])]
    return Span(found[-1][0], found[-1].start(), found[-1].end()) if found else None


def last_number(line: str) -> Span | None:
    """The last number of a line. `41 = 42` is taken whole, so that its falsehood is seen."""
    last = None
    for match in NUMERAL.finditer(line):
        if not any(c.isdigit() for c in match[0]) or _ORDINAL.match(line, match.end()):
            continue
        if last is None or not _result(line, last, match):
            last = match
    if last is None:
        return None
    if "{" in line and (inside := _undelimited(line, last.start(), last.end())) is not None:
        return inside
    before = line[: last.start()]
    chain = _EQUATED.search(before)
    open_sum = _OPEN_SUM.search(before)
    text = f"{chain[1]} = {last[0]}" if chain else open_sum[0] + last[0] if open_sum else last[0]
    return Span(text.strip().rstrip("."), last.start(), last.end())


def _undelimited(line: str, start: int, end: int) -> Span | None:
    """The whole of a formula written without delimiters, `2\\sqrt{3}`, where a number stands inside its braces."""
    opened: list[int] = []
    for i in range(start):
        if line[i] == "{":
            opened.append(i)
        elif line[i] == "}" and opened:
            opened.pop()
    if not opened:
        return None
    left, right, depth = opened[0], end, len(opened)
    while left and not line[left - 1].isspace():
        left -= 1
    if line[left] == "\\" and (whole := _WHOLE_BEFORE.search(line, max(0, left - 40), left)):
        left = whole.start()
    while right < len(line) and (depth or not line[right].isspace()):
        depth += (line[right] == "{") - (line[right] == "}")
        right += 1
    return Span(line[left:right].rstrip(".,;:!?"), left, right)


def _result(line: str, earlier: re.Match[str], later: re.Match[str]) -> bool:
    """Whether the earlier number is the line's result: `= 5 hours to read 120 pages`."""
    before = line[: earlier.start()].rstrip().removesuffix("$").rstrip()
    return before.endswith("=") and _ASIDE.fullmatch(line[earlier.end() : later.start()]) is not None


def formulas(text: str) -> list[str]:
    """The delimited formulas of a text, in order."""
    return [_inside(m) for m in _MATH.finditer(text[:20_000])] if "$" in text or "\\" in text else []
