"""Problems that are of no use for a verified answer, each for a named reason: by statement and by answer.

The patterns are about English, as the prompts are. Big-Math (arXiv 2502.17387) and OpenMathReasoning drop such kinds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from app.verification.numbers import plain

FEWEST_WORDS = 5
MOST_CHARACTERS = 4000

SHORT = "statement too short"
LONG = "statement too long"
CHOICE = "multiple choice"
YES_NO = "yes or no"
PROOF = "proof"
PARTS = "several parts"
OUTSIDE = "picture, table or link needed"
NOTHING_ASKED = "nothing asked"
GIVEN_AWAY = "answer given away"
OTHER_TYPE = "answer of another type than the seeds'"

_CHOICE = re.compile(
    r"which (?:one )?of the following|\(a\).{1,300}\(b\).{1,300}\(c\)|\ba[.)] .{1,200}\bb[.)] .{1,200}\bc[.)] ",
    re.I | re.S,
)
_PROOF = re.compile(r"\b(?:prove|disprove)\b|\b(?:show|demonstrate) that\b|\bgive a proof\b", re.I)
_PARTS = re.compile(
    r"\(a\).+\(b\)|\(i\).+\(ii\)|\bpart a\b.+\bpart b\b|(?:^|\s)a\) .+\sb\) |(?:^|\s)1\) .+\s2\) ", re.I | re.S
)
_OUTSIDE = re.compile(
    r"https?://|\[asy\]|!\[|<img|\bas shown (?:below|above|in)"
    r"|\b(?:in|see|from) the (?:picture|image|figure|diagram|graph|table|chart) (?:below|above|shown)",
    re.I,
)
_YES_NO = re.compile(
    r"(?:is|are|was|were|does|do|did|can|could|will|would|has|have|should)\b"
    r"(?!.*\b(?:what|how|which|find)\b)",
    re.I | re.S,
)
_ASKS = re.compile(
    r"\?|\b(?:find|determine|compute|calculate|evaluate|simplify|solve|express|factor|expand|give|write|what|how)\b",
    re.I,
)
_SENTENCE = re.compile(r"(?<=[.?!])\s+")
_YES = re.compile(r"(?:\\text\w*\{)?(?:yes|no|true|false|correct|incorrect)\}?", re.I)


def fault_of_statement(statement: str) -> str | None:
    """Why a statement cannot be used; None where nothing speaks against it."""
    if len(statement.split()) < FEWEST_WORDS:
        return SHORT
    if len(statement) > MOST_CHARACTERS:
        return LONG
    for pattern, reason in ((_CHOICE, CHOICE), (_PROOF, PROOF), (_PARTS, PARTS), (_OUTSIDE, OUTSIDE)):
        if pattern.search(statement):
            return reason
    if statement.count("?") > 1 and len(_questions(statement)) > 1:
        return PARTS
    if not _ASKS.search(statement):
        return NOTHING_ASKED
    questions = _questions(statement)
    return YES_NO if questions and _YES_NO.match(questions[-1]) else None


def _questions(statement: str) -> list[str]:
    return [sentence for sentence in _SENTENCE.split(statement) if sentence.endswith("?")]


def fault_of_answer(statement: str, answer: str, numeric: bool) -> str | None:
    """Why an answer cannot be a reference.

    Args:
        numeric: the seeds' answers are numbers, so this one must be too.
    """
    bare = answer.strip(" .$")
    if _YES.fullmatch(bare):
        return YES_NO
    if re.fullmatch(r"\(?[A-E]\)?", re.sub(r"\\text\w*|[{}]", "", bare)):
        return CHOICE
    told = rf"(?:answer|solution|result)\s*(?:is|are|:|=)\s*\$?{re.escape(bare)}(?![\w.,]?\d)|####|\\boxed\b"
    if re.search(told, statement, re.I):
        return GIVEN_AWAY
    return OTHER_TYPE if numeric and not is_number(bare) else None


def is_number(answer: str) -> bool:
    """Whether an answer is a number, with a unit, a fraction or a percent sign or not."""
    bare = answer.strip(" .$")
    if re.fullmatch(r"-?\s*(?:\\d?frac\{-?\d+\}\{\d+\}|\d+\s*/\s*\d+)", bare):
        return True
    head = re.match(r"[-+\u2212]?\s*\\?\$?\s*[-+\u2212]?[\d.,]*\d", bare)
    if head is None:
        return False
    rest = bare[head.end() :].strip()
    return (
        plain(head[0].strip()) is not None and re.fullmatch(r"(?:\\?%|\\?[a-zA-Z{}°/ ^23.]{1,30})?", rest) is not None
    )


def all_numbers(answers: Iterable[str], share: float = 0.95) -> bool:
    """Whether (nearly) all answers are numbers: what new problems are then asked to have too."""
    found = [is_number(answer) for answer in answers]
    return bool(found) and sum(found) >= share * len(found)
