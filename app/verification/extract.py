"""Where in a trace the final answer stands, and on what evidence.

Evidence is ranked. Explicit marks (`\\boxed{}`, `<answer>` tags, `#### x`) and anchored phrases ("the answer is")
outrank a bold result, a last formula and a last number; among marks the last one wins, since models correct themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from app.verification.clauses import clip, is_formula, last_formula, last_number, last_tuple, uncalculated
from app.verification.corrections import WITHDRAWN, verdict_of
from app.verification.denial import denied_box
from app.verification.languages import turned
from app.verification.limits import MAX_SENTENCE, MAX_TAIL, MAX_TRACE
from app.verification.phrases import last_anchor
from app.verification.sentence import stands, without_asides, wordy, worked_out
from app.verification.units import UNITS

_STOP = re.compile(
    r"<\|(?:im_end|endoftext|eot_id|end_of_text|end)\|>|</s>|<end_of_turn>|<\uff5cend\u2581of\u2581sentence\uff5c>"
)
_RUN_ON = re.compile(
    r"\n[ \t]*(?:#{1,6} *|\*\*)?(?:Question|Problem|Q|Human|User|Instruction|Exercise|Pregunta|Problema"
    r"|Ejercicio|Frage|Aufgabe|Pergunta"
    r"|Exercice|Domanda|Probl\u00e8me|Soal|Pertanyaan|Swali|Soru|Zadanie|Vraag|C\u00e2u h\u1ecfi"
    r"|B\u00e0i to\u00e1n|\u0412\u043e\u043f\u0440\u043e\u0441|\u0417\u0430\u0434\u0430\u0447\u0430"
    r"|\u95ee\u9898|\u554f\u984c|\u95ee|\u554f|\u9898\u76ee"
    r"|\u984c\u76ee|\u4f8b\u9898|\u8cea\u554f|\uc9c8\ubb38|\ubb38\uc81c|\u0e04\u0e33\u0e16\u0e32\u0e21"
    r"|\u0e42\u0e08\u0e17\u0e22\u0e4c|\u09aa\u09cd\u09b0\u09b6\u09cd\u09a8"
    r"|\u0c2a\u0c4d\u0c30\u0c36\u0c4d\u0c28|\u092a\u094d\u0930\u0936\u094d\u0928|\u0633\u0624\u0627\u0644"
    r"|\u0627\u0644\u0633\u0624\u0627\u0644)"
    r"(?: *\d+)? *(?:\*\*)?[:\uff1a]",
    re.IGNORECASE,
)
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![A-Za-z])")
_BARE = re.compile(r"\s*(-?\s*[\d.,]*\d|\\[A-Za-z]+(?:\s*\{[^{}]*\})*|[A-Za-z](?![\w ]))")
_COMMAND = re.compile(r"\\[A-Za-z]+")
# A box that is spoken of, not drawn: "use \\boxed{}", "marked with \\boxed as asked".
_NAMED = re.compile(
    r"(?:\b(?:in|with|using|use[sd]?|inside|within|an?|the|of|by|put|via|into|through|as|and|no|empty|blank)|[`\"'])\s*[$`]*$",
    re.IGNORECASE,
)
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_GLUE = re.compile(
    r"[\s$,;.()\[\]\\]*(?:\\q?quad|\\text|\\mathrm|\\[(),;\[\]]|[\s{}$,;])*(?:and|or|as well as|\\?&|,"
    r"|;)[\s{}$,\\()\[\]]*"
    r"(?:(?:q?quad|text)[\s{}]*)*(?:[A-Za-z](?:_\{?\w\}?)?\s*=\s*)?[\s$]*",
    re.IGNORECASE,
)
_TAG = re.compile(r"<answer>", re.IGNORECASE)
_TAG_END = re.compile(r"</answer>", re.IGNORECASE)
_HASH = re.compile(r"####[ \t]*(?!#)([^\n]*)")
_HEADING = re.compile(r"\s*(?:\*\*)?(?:step\b|\d+[.)]\s+[A-Za-z]|[A-Za-z]{3,}[^=\d]*:?\s*$)", re.IGNORECASE)
_CUES = re.compile(
    r"\b(?:wait|actually|sorry|oops|wrong|incorrect|mistake|no|instead|rather|check\w*|fails?|perhaps|maybe|guess|try)\b",
    re.IGNORECASE,
)
_UNIT = re.compile(
    r"[ ~]*\$?(?:(\\?%)|(?:\\[,;: ]|~|\s)*(?:\\(?:text|mathrm)\s*\{([^{}]*)\}|([A-Za-z]{1,12})(?![A-Za-z])))"
)
_NOT_BUT = re.compile(r"^\s*not\b[^.\n]{1,60}?\bbut\s+(?:rather\s+)?")
_HEDGE = re.compile(
    r"[\s$*)\].}\\]{0,6},?\s*\(?(?:or|alternatively,?)\s+(?:else\s+)?(?:maybe|perhaps|possibly|could be|"
    r"it could be|it might be|"
    r"equivalently|is it|the answer (?:is|could be|might be))?,?\s*(?=[-$\\\d(*])",
    re.IGNORECASE,
)
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*")
_LONE_LETTER = re.compile(r"\*{0,2}\(?([A-J])(?:\)?\.?|[.)]\s+[^\n]{1,80})\*{0,2}")
_STEP = re.compile(r"\s*(?:step|part|case|method|approach)\b", re.IGNORECASE)
_THUS = re.compile(r"^(?:so|hence|thus|therefore),?\s+", re.IGNORECASE)
_MIXED = re.compile(r"[A-Za-z]{2,}[^$]*\$[^$]+\$[^$]*,\s*[A-Za-z]{2,}")  # a sentence with formulas in it
_TRUNCATED = re.compile(
    r"(?:[=+*/^(\[{,\\]|\b(?:the|and|is|of|to|a|an|so|then|we|by|with|which|are|equals|that|for|in|she|he"
    r"|they|it))$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Extraction:
    """An answer as it was written, and the evidence that it is the final one."""

    answer: str
    evidence: str  # boxed, tag, hash, phrase, revised, whole, letter, bold, formula, number
    start: int
    end: int
    clause: str = ""  # the sentence it was cut out of, after an anchored phrase
    also: str | None = None  # a second way to read it: the boxes of several parts as one answer


@dataclass(frozen=True, slots=True)
class Missing:
    """Why there is no answer: a stable code, `no-answer`, `unfinished` or `withdrawn`."""

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
    best = mark = _mark(body)
    if mark is None:
        best = _phrase(body)
    elif isinstance(mark, Extraction) and _later(phrase := _phrase(body, mark.end), mark):
        best = phrase
    if best is None or isinstance(best, Missing):
        return best
    if not best.answer.strip():
        return Missing("withdrawn")
    return _hedged(body, _revised(body, best))


def _later(phrase: Extraction | Missing | None, mark: Extraction) -> bool:
    """Whether an anchored phrase with an answer of its own follows a mark."""
    if not isinstance(phrase, Extraction) or phrase.start <= mark.end:
        return False
    return is_formula(phrase.answer) or not mark.answer.strip()


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


def boxed(text: str) -> str | None:
    """The answer in the last box of a text, or in the last boxes that belong together; None where none is whole."""
    found = _last_box(text)
    return found.answer if isinstance(found, Extraction) else None


def _last_box(body: str) -> Extraction | Missing | None:
    """The last box; boxes joined by "and", "or" or a comma are one answer with several members."""
    starts = list(_BOX.finditer(body))[-8:] if "box" in body else []
    group: list[Extraction] = []
    others: list[Extraction] = []
    for match in reversed(starts):
        box = _box(body, match)
        if box is None:
            continue
        if isinstance(box, Missing):
            if group:
                continue
            return box
        if not group:
            group = [box]
        elif not others and box.end <= group[0].start and _GLUE.fullmatch(body, box.end, group[0].start):
            group.insert(0, box)
        elif len(body) > MAX_TAIL:
            break
        elif box.end < group[0].start:
            others.insert(0, box)
    if not group:
        return None
    joint = r" \text{ or } " if re.search(r"\bor\b", body[group[0].end : group[-1].start]) else ", "
    answer = joint.join(b.answer for b in group)
    start, end = group[0].start, group[-1].end
    if denied_box(body[max(0, start - 80) : start], body[end : end + 40]):
        return Missing("withdrawn")
    parts = [b.answer for b in (*others, *group)]
    whole = all(any(c.isalnum() for c in _COMMAND.sub("", p)) for p in parts)
    several = len(set(parts)) > 1 and others and whole and not _CUES.search(body, others[0].end, start)
    return Extraction(answer, "boxed", start, end, also=", ".join(parts) if several else None)


def _box(body: str, match: re.Match[str]) -> Extraction | Missing | None:
    """Content of the box that begins at `match`, braces balanced, and the unit after it.

    Missing when it never closes, None where a box is only spoken of.
    """
    at = match.end()
    while at < len(body) and body[at].isspace():
        at += 1
    named = _NAMED.search(body, max(0, match.start() - 40), match.start()) is not None
    if at >= len(body):
        return None if named else Missing("unfinished")
    if body[at] != "{":
        bare = _BARE.match(body, match.end())
        if bare is None:
            return None
        return Extraction(bare[1], "boxed", match.start(), bare.end())
    end = _closed(body, at)
    if end is None:
        return Missing("unfinished")
    content = body[at + 1 : end - 1]
    if not content.strip():
        return None if named or body[end : end + 1] == "`" else Extraction("", "boxed", match.start(), end)
    unit = _UNIT.match(body, end)
    if unit and (unit[1] or (unit[2] or unit[3] or "").strip(" ~") in UNITS):
        return Extraction(f"{content} {unit[0].strip(' $')}", "boxed", match.start(), unit.end())
    return Extraction(content, "boxed", match.start(), end)


def _closed(body: str, at: int) -> int | None:
    """Where the brace that opens at `at` has been closed."""
    depth = 0
    for brace in _BRACE.finditer(body, at):
        if brace[0] == "{":
            depth += 1
        elif brace[0] == "}":
            depth -= 1
            if depth == 0:
                return brace.end()
    return None


def _last_tag(body: str) -> Extraction | Missing | None:
    opened = list(_TAG.finditer(body))
    if not opened:
        return None
    start = opened[-1].end()
    closed = _TAG_END.search(body, start)
    if closed is None:
        return Missing("unfinished")
    content = body[start : closed.start()]
    return Extraction(clip(content, whole=True), "tag", opened[-1].start(), closed.end())


def _last_hash(body: str) -> Extraction | None:
    """`#### x` as GSM8K writes it; headings of the fourth level are passed over."""
    for match in reversed(list(_HASH.finditer(body))):
        content = match[1].strip()
        if not content and match.end() == len(body.rstrip()):
            return Extraction("", "hash", match.start(), match.end())
        if content and not _HEADING.match(content):
            return Extraction(content, "hash", match.start(), match.end())
    return None


def _phrase(body: str, after: int = 0) -> Extraction | Missing | None:
    """What follows the last "the answer is" (or its like) that stands after a place in the text."""
    if after >= len(body):
        return None
    offset = max(after, len(body) - MAX_TAIL)
    tail = body[offset:]
    last = last_anchor(tail)
    if last is None:
        return None
    text = _NOT_BUT.sub("", turned(uncalculated(tail[last.end() : last.end() + 2_000])))
    content = clip(text)
    start = offset + last.start()
    if not content:
        return Missing("unfinished")
    end = body.find(content, offset + last.end())
    end = (end if end >= 0 else offset + last.end()) + len(content)
    inside = verdict_of(content, content) if wordy(content) else None
    if inside == WITHDRAWN:
        return Missing("withdrawn")
    if inside is not None:
        return Extraction(inside, "revised", start, end)
    exclaimed = f"{content}!" if re.fullmatch(r"\d{1,3}", content) and body[end : end + 1] == "!" else None
    return Extraction(content, "phrase", start, end, clause=text.strip()[:600], also=exclaimed)


def _revised(body: str, found: Extraction) -> Extraction | Missing:
    """Follow what is said after the answer: "Wait, it should be 12" is 12, "that is wrong" is no answer."""
    if found.end >= len(body):
        return found
    said = verdict_of(body[found.end : found.end + 1_500], found.answer)
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
    """The whole text where it is short, a lone letter, a bold result, the last formula, the last number."""
    tail = body[-MAX_TAIL:].rstrip()
    line = tail.strip()
    if not line:
        yield Missing("no-answer")
        return
    short = len(line) <= 400 and "\n" not in line and not _MIXED.search(line)
    if short and not (wordy(line) and any(c.isdigit() for c in line)):
        yield Extraction(clip(_THUS.sub("", line), whole=True), "whole", 0, len(body))
    if _TRUNCATED.search(tail.rstrip("*")):
        yield Missing("unfinished")
        return
    last = line.rsplit("\n", 1)[-1]
    letter = _LONE_LETTER.fullmatch(last.strip())
    if letter is not None:
        yield Extraction(letter[1], "letter", 0, len(body))
    bold = next((m for m in reversed(list(_BOLD.finditer(tail[-2_000:]))) if not _STEP.match(m[1])), None)
    if bold is not None:
        window = tail[-2_000:]
        if not stands(window[: bold.start()].rsplit("\n", 1)[-1], window[bold.end() :].split("\n", 1)[0]):
            yield Missing("no-answer")
            return
        yield Extraction(clip(bold[1], whole=True), "bold", 0, len(body))
    yield from _last_lines(tail)


def _last_lines(tail: str) -> Iterator[Extraction | Missing]:
    """Formulas and numbers from the end upwards: the last line that has either decides."""
    for raw in (line[-MAX_SENTENCE:] for line in reversed(tail[-4_000:].split("\n"))):
        line = without_asides(turned(uncalculated(raw)))
        formula, number = last_formula(line) or last_tuple(line), last_number(line)
        found = [(formula, "formula")] if formula is not None and (number is None or formula.end >= number.end) else []
        found += [(number, "number")] if number is not None else []
        for span, evidence in found:
            if not stands(line[: span.start], line[span.end :]):
                worked = worked_out(line)
                yield Missing("no-answer") if worked is None else Extraction(worked, "formula", 0, len(tail))
                return
            yield Extraction(span.text, evidence, 0, len(tail))
        if number is not None:
            break
    yield Missing("no-answer")
