"""Answers that are words: multiple choice, clock times, yes and no, names and short phrases."""

from __future__ import annotations

import re

_TEXT = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname|emph|textsc|underline|mathit)\s*\{([^{}]*)\}"
)
_COMMAND = re.compile(r"\\(?:left|right|quad|qquad|bf|rm|it|,|;|!|:| )|[${}]|\\[()\[\]]")
_LETTER = re.compile(r"\(?\s*([A-J])\s*\)?\.?")
_CHOSEN = re.compile(
    r"(?:the\s+)?(?:(?:correct|right|best|final)\s+)?(?:answer|option|choice|choose|select)?\s*(?:is|:)?\s*(?:option|choice)?\s*"
    r"[(\[]?\s*([A-Ja-j])\s*(?:[)\].:,]|$|\s+(?:[-=:\u2013\u2014(]|because|since|as\b))",
    re.IGNORECASE,
)
_NAMED_OPTION = re.compile(r"\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer)\s+\(?([A-J])\b")
_TIME = re.compile(
    r"(\d{1,2})(?::([0-5]\d))?(?::([0-5]\d))?\s*(?:([ap])\.?\s*m\.?|(noon|midnight|o'?clock))?", re.IGNORECASE
)
_ARTICLES = re.compile(r"^(?:the|a|an)\s+")
_PUNCTUATION = re.compile(r"[^\w\s+\-*/<>=%'.]")
_YES = {
    "yes": "yes",
    "true": "true",
    "no": "no",
    "false": "false",
    "correct": "true",
    "incorrect": "false",
    "y": "yes",
    "n": "no",
}
_NEGATION = re.compile(r"\b(?:not|never|neither|nor|no|non|isn't|aren't|doesn't|cannot|can't|or)\b")
_NONE = {
    "dne",
    "does not exist",
    "undefined",
    "no solution",
    "no solutions",
    "no real solution",
    "no real solutions",
    "none",
    "empty set",
}


def plain_words(text: str) -> str:
    """The text without LaTeX text commands, delimiters and extra space."""
    for _ in range(4):  # text commands inside text commands
        before, text = text, _TEXT.sub(r" \1 ", text)
        if before == text:
            break
    return " ".join(_COMMAND.sub(" ", text).split()).strip(' .;,*`"')


def folded(text: str) -> str:
    """Words in one case, without punctuation or a leading article."""
    words = _PUNCTUATION.sub(" ", plain_words(text).casefold())
    return _ARTICLES.sub("", " ".join(words.split())).strip(" .'")


def choice(reference: str) -> str | None:
    """The letter, where a reference is a multiple-choice option: `B`, `(B)`, `\\text{(B)}`."""
    match = _LETTER.fullmatch(plain_words(reference))
    return match[1] if match else None


def chosen(answer: str) -> str | None:
    """The option an answer names: `(B)`, `B.`, `Option B`, `(B) 12`, `b`."""
    words = plain_words(answer)
    match = _CHOSEN.match(words)
    if match is None:
        named = {m[1] for m in _NAMED_OPTION.finditer(words[:400])}
        return named.pop() if len(named) == 1 else None
    rest = words[match.end() :]
    if re.search(r"(?:\bor\b|\band\b|,)\s*\(?[A-J]\)?\s*$", rest):
        return None  # names a second option
    return match[1].upper()


def options(question: str) -> dict[str, str]:
    """The options a question lists, by letter: `(A) 3 (B) 4`, `A. 3\\nB. 4`."""
    question = _TEXT.sub(r"\1", question)
    marks = list(re.finditer(r"(?:\(([A-J])\)|(?:(?<=\n)|(?<=\s\s)|^)([A-J])[.):])\s*", question))
    found = {}
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        body = question[mark.end() : following.start() if following else len(question)]
        found[mark[1] or mark[2]] = re.sub(r"\\q?quad|~|\\\\", " ", body.split("\n")[0]).strip().strip("$,;").strip()
    return found if len(found) >= 2 else {}


def clock(text: str) -> tuple[int, str | None] | None:
    """Seconds after midnight, or on a 12-hour dial where no half of the day is named, and which it was."""
    words = plain_words(text)
    match = _TIME.fullmatch({"noon": "12 pm", "midnight": "12 am"}.get(words.lower(), words))
    if match is None or not (match[2] or match[4] or match[5]):
        return None
    hour, half = int(match[1]), (match[4] or "").lower()
    word = (match[5] or "").lower()
    if word in ("noon", "midnight"):
        half = "p" if word == "noon" else "a"
    if hour > 24 or (half and not 1 <= hour <= 12):
        return None
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    marker = half or ("24" if hour > 12 or match[1].startswith("0") else None)
    return hour * 3600 + int(match[2] or 0) * 60 + int(match[3] or 0), marker


def same_time(reference: tuple[int, str | None], answer: tuple[int, str | None]) -> bool:
    """Equal times; where one does not say which half of the day, the dial has to agree."""
    if reference[1] is None or answer[1] is None:
        return reference[0] % 43200 == answer[0] % 43200
    return reference[0] == answer[0]


def same_words(reference: str, answer: str) -> bool:
    """Equal words after folding; "Yes, because ..." is yes; a sentence that ends with the reference, not negated."""
    left, right = folded(reference), folded(answer)
    if not left:
        return False
    if left == right:
        return True
    if left in _YES:
        words = right.split()
        return bool(words) and _YES.get(words[0]) == _YES[left] and not (len(words) > 1 and words[1] == "or")
    if left in _NONE and right in _NONE:
        return _kind(left) == _kind(right)
    if (
        len(left) >= 3
        and len(right) <= 200
        and re.search(rf"\b(?:is|are|was|be|be an?|=)\s+(?:an?\s+|the\s+)?{re.escape(left)}$", right)
    ):
        return _NEGATION.search(right) is None or _NEGATION.search(left) is not None
    return False


def says_none(text: str) -> bool:
    """Whether the words say that there is no solution, which is the empty set."""
    return folded(text) in _NONE and _kind(folded(text)) == "none"


def _kind(words: str) -> str:
    return "undefined" if words in ("dne", "does not exist", "undefined") else "none"
