"""Where in a trace the final answer stands, and on what evidence.

Evidence is ranked. Explicit marks (`\\boxed{}`, `<answer>` tags, `#### x`) and anchored phrases ("the answer is")
outrank a bold result, a last formula and a last number; among marks the last one wins, since models correct themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from app.verification.clauses import clip, is_formula, is_prose, last_formula, last_number, last_tuple
from app.verification.corrections import WITHDRAWN, verdict_of
from app.verification.limits import MAX_TAIL, MAX_TRACE

_STOP = re.compile(
    r"<\|(?:im_end|endoftext|eot_id|end_of_text|end)\|>|</s>|<end_of_turn>|<\uff5cend\u2581of\u2581sentence\uff5c>"
)
_RUN_ON = re.compile(
    r"\n[ \t]*(?:#{1,6} *|\*\*)?(?:Question|Problem|Q|Human|User|Instruction|Exercise)(?: *\d+)? *(?:\*\*)?:",
    re.IGNORECASE,
)
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![A-Za-z])")
_BARE = re.compile(r"\s*(-?\s*[\d.,]*\d|\\[A-Za-z]+(?:\s*\{[^{}]*\})*|[A-Za-z])")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_GLUE = re.compile(
    r"[\s$,;.()\[\]\\]*(?:\\q?quad|\\text|\\mathrm|\\[(),;\[\]]|[\s{}$,;])*(?:and|or|,|;)[\s{}$,\\()\[\]]*"
    r"(?:(?:q?quad|text)[\s{}]*)*(?:[A-Za-z](?:_\{?\w\}?)?\s*=\s*)?[\s$]*",
    re.IGNORECASE,
)
_TAG = re.compile(r"<answer>", re.IGNORECASE)
_TAG_END = re.compile(r"</answer>", re.IGNORECASE)
_HASH = re.compile(r"####[ \t]*(?!#)([^\n]*)")
_HEADING = re.compile(r"\s*(?:\*\*)?(?:step\b|\d+[.)]\s+[A-Za-z]|[A-Za-z]{3,}[^=\d]*:?\s*$)", re.IGNORECASE)
_PHRASE = re.compile(
    r"\bans(?:wers?)?(?:\s+(?:to|for|of|in|that|we|here)\b[^.:\n=?]{0,100}?|\s+therefore|\s+thus|\s+choice)?\**\s*"
    r"(?:(?:is|are|was|equals|should be|would be|must be|will be|comes? (?:out )?to(?: be)?)\b"
    r"(?:\s+(?:therefore|thus|now|then|simply|just|"
    r"clearly|approximately|about|equal to|given by|as follows|exactly|indeed|option|choice))*"
    r"\s*[,:]?|[:\uff1a=]|=>|->|\n)\s*\**"
    r"|\u7b54\u6848(?:\u662f|\u4e3a|[:\uff1a])+\s*",
    re.IGNORECASE,
)
_NOT_BUT = re.compile(r"^\s*not\b[^.\n]{1,60}?\bbut\s+(?:rather\s+)?")
_HEDGE = re.compile(
    r"[\s$*)\].}\\]{0,6},?\s*\(?(?:or|alternatively,?)\s+(?:else\s+)?(?:maybe|perhaps|possibly|could be|"
    r"it could be|it might be|"
    r"equivalently|is it|the answer (?:is|could be|might be))?,?\s*(?=[-$\\\d(*])",
    re.IGNORECASE,
)
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*")
_STEP = re.compile(r"\s*(?:step|part|case|method|approach)\b", re.IGNORECASE)
_TRUNCATED = re.compile(
    r"(?:[=+*/^(\[{,\\]|\b(?:the|and|is|of|to|a|an|so|then|we|by|with|which|are|equals|that|for|in|she|he|they|it))$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Extraction:
    """An answer as it was written, and the evidence that it is the final one."""

    answer: str
    evidence: str  # boxed, tag, hash, phrase, revised, whole, bold, formula, number
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Missing:
    """Why there is no answer: a stable code, `no-answer` or `unfinished`."""

    reason: str


def candidates(text: str) -> Iterator[Extraction | Missing]:
    """Answers of a trace, best evidence first; the reader takes the first that it can read.

    Only weak evidence yields more than one. Ends with a Missing when nothing else is left to try.
    """
    body = _final_part(text)
    if isinstance(body, Missing):
        yield body
        return
    found = _strong(body)
    if found is not None:
        yield found
        return
    yield from _weak(body)


def _final_part(text: str) -> str | Missing:
    """The trace after its reasoning block and before its end token."""
    text = text[-MAX_TRACE:]
    if "<" in text:
        closed = text.rfind("</think>")
        if closed >= 0:
            text = text[closed + 8 :]
        elif "<think>" in text:
            return Missing("unfinished")
        stop = _STOP.search(text)
        if stop:
            text = text[: stop.start()]
    return text


def _strong(body: str) -> Extraction | Missing | None:
    """The explicit mark or anchored phrase that counts, after run-on text is cut and later corrections are followed."""
    run_on = _RUN_ON.search(body) if "\n" in body else None
    if run_on:
        head = body[: run_on.start()]
        if _mark(head) is not None or _phrase(head) is not None:
            body = head
    mark, phrase = _mark(body), _phrase(body)
    if mark is None:
        if phrase is None:
            return None
        return _hedged(body, _revised(body, phrase))
    if isinstance(mark, Missing):
        return mark
    if phrase is not None and phrase.start > mark.end and is_formula(phrase.answer):
        return _hedged(body, _revised(body, phrase))
    return _hedged(body, _revised(body, mark))


def _mark(body: str) -> Extraction | Missing | None:
    """The last explicit mark. A mark that was begun and never closed means the trace is unfinished."""
    best: Extraction | Missing | None = _last_box(body) if "\\" in body else None
    at = best.start if isinstance(best, Extraction) else (len(body) if best else -1)
    if "<" in body:
        tag = _last_tag(body)
        if tag is not None and (isinstance(tag, Missing) or tag.start > at):
            best, at = tag, tag.start if isinstance(tag, Extraction) else len(body)
    if "####" in body:
        hashed = _last_hash(body)
        if hashed is not None and hashed.start > at:
            best = hashed
    return best


def _last_box(body: str) -> Extraction | Missing | None:
    """The last non-empty box; boxes joined by "and", "or" or a comma are one answer with several members."""
    starts = list(_BOX.finditer(body))[-8:] if "box" in body else []
    group: list[Extraction] = []
    for match in reversed(starts):
        box = _box(body, match)
        if isinstance(box, Missing):
            if group:
                continue
            return box
        if not box.answer.strip():
            continue
        if not group:
            group = [box]
        elif box.end <= group[0].start and _GLUE.fullmatch(body, box.end, group[0].start):
            group.insert(0, box)
        elif box.end < group[0].start:
            break
    if not group:
        return None
    if len(group) == 1:
        return group[0]
    joint = r" \text{ or } " if re.search(r"\bor\b", body[group[0].end : group[-1].start]) else ", "
    return Extraction(joint.join(b.answer for b in group), "boxed", group[0].start, group[-1].end)


def _box(body: str, match: re.Match[str]) -> Extraction | Missing:
    """Content of the box that begins at `match`, braces balanced; Missing when it never closes."""
    at = match.end()
    while at < len(body) and body[at].isspace():
        at += 1
    if at >= len(body):
        return Missing("unfinished")
    if body[at] != "{":
        bare = _BARE.match(body, at)
        end = bare.end() if bare else at
        return Extraction(body[at:end], "boxed", match.start(), end)
    depth = 0
    for brace in _BRACE.finditer(body, at):
        if brace[0] == "{":
            depth += 1
        elif brace[0] == "}":
            depth -= 1
            if depth == 0:
                return Extraction(body[at + 1 : brace.start()], "boxed", match.start(), brace.end())
    return Missing("unfinished")


def _last_tag(body: str) -> Extraction | Missing | None:
    opened = list(_TAG.finditer(body))
    if not opened:
        return None
    start = opened[-1].end()
    closed = _TAG_END.search(body, start)
    if closed is None:
        return Missing("unfinished")
    content = body[start : closed.start()]
    if not content.strip():
        return None
    return Extraction(clip(content, whole=True), "tag", opened[-1].start(), closed.end())


def _last_hash(body: str) -> Extraction | None:
    """`#### x` as GSM8K writes it; headings of the fourth level are passed over."""
    for match in reversed(list(_HASH.finditer(body))):
        content = match[1].strip()
        if content and not _HEADING.match(content):
            return Extraction(content, "hash", match.start(), match.end())
    return None


def _phrase(body: str) -> Extraction | None:
    """What follows the last "the answer is" (or its like) that something follows."""
    offset = max(0, len(body) - MAX_TAIL)
    tail = body[offset:]
    if "ns" not in tail and "NS" not in tail and "\u7b54\u6848" not in tail:
        return None
    for match in reversed(list(_PHRASE.finditer(tail))):
        content = clip(_NOT_BUT.sub("", tail[match.end() : match.end() + 2_000]))
        if content:
            start = offset + match.start()
            end = body.find(content, start + len(match[0]))
            return Extraction(content, "phrase", start, (end if end >= 0 else start) + len(content))
    return None


def _revised(body: str, found: Extraction) -> Extraction | Missing:
    """Follow what is said after the answer: "Wait, it should be 12" is 12, "that is wrong" is no answer."""
    if found.end >= len(body):
        return found
    said = verdict_of(body[found.end : found.end + 1_500])
    if said is None:
        return found
    if said == WITHDRAWN:
        return Missing("withdrawn")
    return Extraction(said, "revised", found.start, len(body))


def _hedged(body: str, found: Extraction | Missing) -> Extraction | Missing:
    """An answer followed by "or maybe 6" is both: the comparison then asks every alternative to be right."""
    match = None if isinstance(found, Missing) else _HEDGE.match(body, found.end)
    if isinstance(found, Missing) or match is None:
        return found
    other = clip(body[match.end() : match.end() + 300])
    if not other or not is_formula(other):
        return found
    return Extraction(rf"{found.answer} \text{{ or }} {other}", found.evidence, found.start, match.end() + len(other))


def _weak(body: str) -> Iterator[Extraction | Missing]:
    """The whole text where it is short, a bold result, the last formula, the last number."""
    tail = body[-MAX_TAIL:].rstrip()
    line = tail.strip()
    if not line:
        yield Missing("no-answer")
        return
    if len(line) <= 400 and "\n" not in line and not (is_prose(line) and any(c.isdigit() for c in line)):
        yield Extraction(clip(line, whole=True), "whole", 0, len(body))
    if _TRUNCATED.search(tail.rstrip("*")):
        yield Missing("unfinished")
        return
    bold = next((m for m in reversed(list(_BOLD.finditer(tail[-2_000:]))) if not _STEP.match(m[1])), None)
    if bold is not None:
        yield Extraction(clip(bold[1], whole=True), "bold", 0, len(body))
    for content, evidence in _last_lines(tail):
        yield Extraction(content, evidence, 0, len(body))
    yield Missing("no-answer")


def _last_lines(tail: str) -> Iterator[tuple[str, str]]:
    """Formulas and numbers from the end upwards: the last line that has either decides."""
    for line in reversed(tail[-4_000:].split("\n")):
        formula, number = last_formula(line) or last_tuple(line), last_number(line)
        if formula is not None and (number is None or formula[1] >= number[1]):
            yield formula[0], "formula"
        if number is not None:
            yield number[0], "number"
            return
