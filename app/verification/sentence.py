"""What a sentence says the answer is: "I think she has 12" is 12, "the square of side 3 has perimeter 12" is 12.

Numbers and formulas are taken out first, each as one private character (see spoken.py), so that a rule sees the words
alone. A sentence that is not understood to its end has no answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from app.verification.clauses import is_prose, math_spans
from app.verification.denial import bounded_after, denied_before, denies, denies_after, withdraws
from app.verification.languages import turned
from app.verification.limits import MAX_SENTENCE
from app.verification.numerals import NUMERAL, figures
from app.verification.spoken import FIRST, fold, operated
from app.verification.units import UNITS

_A = "[\ue000-\uf8ff]"
_WORDED = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mbox|textsf|emph)\s*\{([^{}]*)\}")
_SPACING = re.compile(r"\\[,;:! ]|\\q?quad\b|~|\\left\b|\\right\b")
_ORDINAL = re.compile(r"(?:st|nd|rd|th)\b")
_VERB = (
    r"is|are|was|were|be|equals?|becomes?|gives?|gave|yields?|makes?|made|totals?|amounts?\s+to"
    r"|comes?\s+(?:out\s+)?to|adds?\s+up\s+to|has|have|had"
    r"|leaves?|left|remains?|need(?:s|ed)?|takes?|took|gets?|got|earn(?:s|ed)?|pa(?:ys?|id)|costs?|sells?"
    r"|sold|buys?|bought|spen(?:ds?|t)|save[sd]?|own(?:s|ed)?"
    r"|eats?|ate|use[sd]?|runs?|ran|walk(?:s|ed)?|work(?:s|ed)?|reads?|writes?|wrote|receive[sd]?|weigh(?:s"
    r"|ed)?|measure[sd]?|travel(?:s|ed)?|drives?|drove"
    r"|collect(?:s|ed)?|charge[sd]?|contains?|contained|holds?|held|gain(?:s|ed)?|lasts?|produce[sd]?"
    r"|owe[sd]?|obtain(?:s|ed)?|find|found|see|know|say|guess|think|believe"
)
_EQUALS = (
    r"is|are|was|were|would\s+be|will\s+be|must\s+be|should\s+be|to\s+be|equals?|=|\u2248|:|becomes?|gives?"
    r"|yields?|totals?|amounts?\s+to"
    r"|comes?\s+(?:out\s+)?to|that\s+is,?|i\.\s?e\.,?|namely,?"
)
_FILLER = (
    r"most|very|exactly|precisely|simply|just|only|definitely|certainly|clearly|obviously|surely|probably|likely"
    r"|presumably|perhaps|maybe|therefore|thus|hence|then"
    r"|so|now|indeed|actually|in\s+fact|in\s+total|in\s+all|altogether|about|approximately|roughly"
    r"|equal\s+to|given\s+by|as\s+follows|finally|overall|either|both"
    r"|a\s+total\s+of|a\s+grand\s+total\s+of|the\s+(?:number|value|integer|numbers|values|result|following"
    r"|amount)|option|choice|also|still|yes|sure|well|ok(?:ay)?"
    r"|of\s+course|without\s+(?:a\s+)?doubt|undoubtedly|really|always|together|again|x|y|n|the|an?|all"
    r"|another|an\s+additional|i\.\s?e\.|namely|equivalently"
)
_LEAD = re.compile(
    rf"\s*(?:[,:*_$(\[]|\bthat\b|(?:as|by|from|using|after|based\s+on"
    rf"|according\s+to)\s[^,.;\ue000-\uf8ff]{{1,60}},|(?:{_FILLER})\b"
    r"|(?:I|we|you|one)(?:\s+(?:would|can|do|should|will|must|now|also|then|finally|firmly|strongly"
    r"|get\s+that))*\s+(?:think|believe|say|guess|find|get|have|obtain|see|conclude|know|claim"
    r"|suspect|estimate|reckon|arrive\s+at|end\s+up\s+with|am\s+(?:quite\s+|very\s+|fairly\s+"
    r"|pretty\s+)?(?:sure|confident|certain)|count|compute|calculate|pick|choose|choos|select"
    r"|choose\s+option)(?:\s+that)?"
    r"|I['\u2019]d\s+(?:say|guess)|I['\u2019]m\s+(?:quite\s+|very\s+|fairly\s+|pretty\s+)?(?:sure|confident"
    r"|certain)(?:\s+that)?|(?:to\s+)?my\s+(?:best\s+|final\s+|own\s+)?(?:guess|answer|estimate|belief"
    r"|calculation|choice|result)(?:\s+is)?"
    r"|(?:the|our|this)\s+(?:(?:final|correct|right|best|desired|required|numerical|overall)\s+)*(?:answer"
    r"|result|value|total|sum|solution|count|choice|option|amount|number)s?\s+(?:is|are|was|equals"
    r"|would\s+be|will\s+be|must\s+be|should\s+be|comes?\s+to)"
    r"|it['\u2019]s|that['\u2019]s|there['\u2019]s|(?:he|she|they|we|you|i|it|this|that|there"
    r"|which)\s+(?:(?:will|would|must|should|now|then|still|also|only|finally)\s+)*(?:" + _VERB + r"))(?![\w-])?",
    re.IGNORECASE,
)
_END = re.compile(r"\n|[.!?;\u3002\uff01\uff1f](?=\s|$|[*\"')\]])|[\u3002\uff1b]")
_PART = re.compile(r"\b(?:so|thus|hence|therefore|then|consequently)\b,?|;", re.IGNORECASE)
_CONDITION = re.compile(
    r"^\s*(?:if|when|since|as|because|given|for|after|with|in|of|out\s+of|where)\b[^,]*,", re.IGNORECASE
)
_BREAK = re.compile(
    r"[,;:(\u2014\u2013.!?\n]|\s-+\s|\s(?:so|which|who|because|since|as|where|when|while|whereas|but|though"
    r"|although|and|hence|thus|therefore|if|this|meaning|making|leaving)\b"
)
_RUN = re.compile(
    rf"{_A}(?:(?:\s*,\s*(?:and\s+|or\s+)?|\s+(?:and|or|&|as\s+well\s+as)\s+){_A}(?!\s*(?:of|are|in|for)\b))*"
)
_NAME = r"(?:[a-zA-Z](?:_\w)?\s*=\s*)?"
_MAYBE = re.compile(
    rf"\b(?:(?:could|might|may|can)\s+(?:also\s+|well\s+|just\s+|equally\s+)*be|maybe|perhaps|possibly"
    rf"|alternatively)\b[^.]*{_A}",
    re.IGNORECASE,
)
_PROSE = re.compile(r"(?<![\\\w])[^\W\d_]{2,} +[^\W\d_]{2,}")  # two words side by side, in any script
_RESULT = re.compile(r"[\d)%A-Za-z]\s*=\s*[$\u20ac\u00a3]?\s?-?$")  # after a calculation
# "3 out of 4", "1 in 6", "2 to 5": a value that is one part of another.
_SHARE = re.compile(rf"\s*(?:out\s+of|in|to|of|by|per|for\s+every|from|x|and\s+a\s+half)\s+(?:the\s+)?{_A}")
_FACTORIAL = re.compile(r"(?<![\w.,])\d+!(?=\s*[.,;)a-z=+*/-])")
_SPOILED = re.compile(
    rf"\s*[\u4e07\u842c\u5343\u767e\u4ebf\u5104\u5341]|[\s*_$)]*\?|\s*{_A}|\s+:\s*{_A}|:{_A}"
    rf"|\s*[/\u00d7*+\u00b1\u2213^=<>\u2264\u2265~]\s*{_A}|\s*\(\s*or\s+(?:\w+\s+)?{_A}\s*\)|-?\s?ish\b"
    rf"|!(?=\s*[.,;)a-z=+])"
    r"|\s*,?\s*(?:more\s+or\s+less|give\s+or\s+take|or\s+thereabouts|plus\s+or\s+minus)\b"
)
_LATEX = re.compile(r"\\[A-Za-z]+|[{}$\\]")
_SIDELONG = re.compile(
    rf"\b(?:around|over|under|above|below|near|past|beyond|within|between|until|(?:square|cube"
    rf"|power)\s+of)\s+{_A}|{_A}\s+to\s+the\b"
    rf"|{_A}-?\s?ish\b|{_A}\s*[\u7684\u306e\u4e07\u842c\u5343\u767e\u4ebf\u5104\u500d]",
    re.IGNORECASE,
)
_BOXED_FACTORIAL = re.compile(r"(?<![\w.,])\d+!")
_LED = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,},\s|[A-Za-z]['\u2019][a-z]+\s")
_STRANGE = re.compile(r"[\\^_@{}|<>~#]")  # signs that are no punctuation: what they do is not understood
_ASIDE = re.compile(
    r"(?<=\w)\s\((?=[^()]*[A-Za-z]{2})[^()=]*\)|(?<=\w),?\s(?:since|because)\s[^.\n]*"
    r"|(?<=\w),?\sas\s(?=an?\s|the(?:re)?\s|each\s|every\s|one\s|he\s|she\s|they\s|it\s|\$|\d)[^.\n]*"
)
_REASON = re.compile(r"\s\(?(?:because|since|as)\s", re.IGNORECASE)
_BARE_WORD = re.compile(r"[A-Za-z\u00b0\u00c0-\u024f\u0400-\u04ff]+")


def masked(text: str, *, boxed: bool = False) -> tuple[str, list[str]]:
    """The text with each number or formula as one private character, and what they stand for.

    In a box all but `\\text{}` is mathematics; elsewhere only what is delimited.
    """
    values: list[str] = []

    def keep(value: str) -> str:
        values.append(value.strip())
        return chr(FIRST + len(values) - 1)

    if boxed and "\\" in text:
        pieces, at = [], 0
        text = _SPACING.sub(" ", text)
        for match in _WORDED.finditer(text):
            pieces += [_kept(text[at : match.start()], keep), " ", _numbers(match[1], keep, boxed=True), " "]
            at = match.end()
        return "".join([*pieces, _kept(text[at:], keep)]), values
    pieces, at = [], 0
    for start, end, content in math_spans(text):
        pieces += [_numbers(text[at:start], keep), keep(content)]
        at = end
    return "".join([*pieces, _numbers(text[at:], keep)]), values


def _kept(piece: str, keep: Callable[[str], str]) -> str:
    core = piece.strip().strip("$")
    if not any(c.isalnum() or c == "\\" for c in core):
        return piece
    lead = re.match(r"[\s,;:]*", piece)
    trail = re.search(r"[\s,;:.]*$", piece)
    first, last = (lead.end() if lead else 0), (trail.start() if trail else len(piece))
    return piece[:first] + keep(piece[first:last]) + piece[last:]


def _numbers(words: str, keep: Callable[[str], str], *, boxed: bool = False) -> str:
    words = figures(turned(words))

    def one(match: re.Match[str]) -> str:
        if not any(c.isdigit() or "\u00bc" <= c <= "\u215e" for c in match[0]) or _ORDINAL.match(words, match.end()):
            return match[0]
        space = match[0][: len(match[0]) - len(match[0].lstrip())]
        return space + keep(match[0])

    return NUMERAL.sub(one, (_BOXED_FACTORIAL if boxed else _FACTORIAL).sub(lambda match: keep(match[0]), words))


def value(text: str, *, boxed: bool = False) -> str | None:
    """The answer a sentence gives, as mathematics with its unit; None where it is not understood."""
    if len(text) > MAX_SENTENCE:
        return None
    words, values = masked(text.replace("\\$", "$"), boxed=boxed)
    return None if _STRANGE.search(words) else read(words, values)


def read(words: str, values: list[str]) -> str | None:
    """The answer of a text whose numbers and formulas are taken out already."""
    if not values:
        return None
    words = fold(words, values)
    end = _END.search(words)
    sentence, rest = (words[: end.start()], words[end.start() :]) if end else (words, "")
    found = _direct(sentence, rest, values)
    return found if found is not None else _equated(sentence, rest, values)


def _direct(sentence: str, rest: str, values: list[str]) -> str | None:
    at = 0
    while (lead := _LEAD.match(sentence, at)) and lead.end() > at:
        at = lead.end()
    match = re.compile(rf"\s*{_NAME}({_RUN.pattern})").match(sentence, at)
    if match is None:
        return None
    if denied_before(sentence[: match.start(1)]) or operated(sentence[: match.start(1)], sentence[match.end() :]):
        return None
    return _finished(match[1], sentence[match.end() :], rest, values)


def _equated(sentence: str, rest: str, values: list[str]) -> str | None:
    """The value after the main verb, where the sentence has one such value."""
    pattern = re.compile(
        rf"(?:(?<![A-Za-z])(?:{_EQUALS})"
        rf"|(?<=\s)(?:{_VERB}))(?![A-Za-z])(?:\s+(?:{_FILLER})(?![A-Za-z]))*[\s$*]*{_NAME}({_RUN.pattern})",
        re.IGNORECASE,
    )
    for part in reversed(list(_parts(sentence))):
        text, offset = part
        main = _CONDITION.sub(lambda m: " " * len(m[0]), text)
        matches = list(pattern.finditer(main))
        if not matches:
            continue
        if len({tuple(values[ord(c) - FIRST] for c in m[1] if c >= "\ue000") for m in matches}) > 1 and not re.search(
            r"that\s+is,?\s*\S$|=\s*\S$", main[: matches[-1].end()]
        ):
            return None
        match = matches[-1]
        before, after = sentence[: offset + match.start(1)], sentence[offset + match.end() :]
        if denied_before(_clause(before)) or operated(before, after):
            return None
        return _finished(match[1], after, rest, values)
    return None


def _parts(sentence: str) -> Iterator[tuple[str, int]]:
    at = 0
    for cut in _PART.finditer(sentence):
        yield sentence[at : cut.start()], at
        at = cut.end()
    yield sentence[at:], at


def _clause(before: str) -> str:
    """What stands between the last comma and a value."""
    cuts = list(re.finditer(r"[,;:]\s|\b(?:so|thus|hence|therefore|then)\b", before))
    return before[cuts[-1].end() :] if cuts else before


def _finished(run: str, after: str, rest: str, values: list[str]) -> str | None:
    """The run of values with its unit, unless what follows denies, bounds or works on it."""
    if not understood_after(after + rest):
        return None
    cut = _BREAK.search(after)
    unit = (after[: cut.start()] if cut else after).strip(" *_$")
    parts = [values[ord(c) - FIRST] for c in run if c >= "\ue000"]
    joint = r" \text{ or } " if re.search(r"\bor\b", run) else ", "
    if len(parts) > 1:
        return joint.join(parts)
    words = _BARE_WORD.findall(unit)
    if (
        unit
        and not re.search(_A, unit)
        and len(words) <= 3
        and re.fullmatch(r"[A-Za-z\u00b0/ ^23\u00b2\u00b3%-]+", unit)
    ):
        return f"{parts[0]} {unit}"
    return f"{parts[0]} {words[0]}" if words and words[0].lower() in UNITS else parts[0]


def understood_after(after: str) -> bool:
    """Whether what stands after a value (values masked) neither denies, bounds, doubts nor works on it."""
    if _SPOILED.match(after) or bounded_after(after) or operated("", after):
        return False
    cut = _BREAK.search(after)
    if denies_after(after[: cut.start()] if cut else after):
        return False
    if _SHARE.match(after):
        return False
    sentence_end = _END.search(after)
    near = _REASON.split(after[: sentence_end.end()] if sentence_end else after)[0]
    return not withdraws(near) and _MAYBE.search(near) is None


def stands(before: str, after: str) -> bool:
    """Whether the words of its line leave a value as it is: none denies, bounds or works on it."""
    words = masked(after)[0]
    if _RESULT.search(before):
        return not (_SPOILED.match(words) or bounded_after(words) or withdraws(_END.split(words)[0]))
    clause = _clause(re.split(r"[.!?]\s", masked(before)[0])[-1])
    return not (denied_before(clause) or operated(clause, words)) and understood_after(words)


def worked_out(line: str) -> str | None:
    """The value of a line's last sentence in which words work on a value: "it is half of 7"."""
    words, values = masked(line)
    sentence = [s for s in re.split(r"(?<=[.!?])\s+", words.strip()) if s][-1]
    before = len(values)
    folded = fold(sentence, values)
    return read(folded, values) if len(values) > before else None


def wordy(text: str) -> bool:
    """Whether an answer is more than a value with a word or two beside it."""
    if is_prose(text) or _PROSE.search(text) or _LED.search(text):
        return True
    return any(re.search(r"[\s,;:.?!]", match[1].strip()) for match in _WORDED.finditer(text))


def without_lead(text: str) -> str:
    """The text without the words that lead in to an answer: "I believe C" is `C`."""
    at = 0
    while (lead := _LEAD.match(text, at)) and lead.end() > at:
        at = lead.end()
    return text[at:].strip()


def agrees(answer: str, clause: str) -> bool:
    """Whether the rest of its sentence leaves standing an answer that a clause begins with."""
    at = clause.find(answer)
    return at < 0 or understood_after(masked(clause[at + len(answer) :])[0])


def without_asides(line: str) -> str:
    """The line without what only explains its result: "= 624 pages (12 in each of 52 weeks), as a year has 52"."""
    if "(" not in line and " as " not in line and "ecause" not in line and "ince" not in line:
        return line
    kept = _ASIDE.sub(lambda m: m[0] if "=" in m[0] or "(or" in m[0] or denies(m[0]) or withdraws(m[0]) else "", line)
    return kept if any(c.isdigit() for c in kept) else line


def sound(answer: str) -> bool:
    """Whether the words of an answer that reads as mathematics neither deny nor bound a value in it."""
    if len(answer) > MAX_SENTENCE:
        return True
    words = NUMERAL.sub(chr(FIRST), _LATEX.sub(" ", answer))
    return not (denies(words) or withdraws(words) or _SIDELONG.search(words))
