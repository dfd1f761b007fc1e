"""Steps of a trace: consecutive ranges of its token ids. Nothing is ever encoded again.

A splitter looks at the text and says where steps end; a step then ends with the token that completes that character. So
the steps' token ranges, and their texts, always join to the trace, with any tokenizer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from app.credit.splitters import cut
from app.tokens import TokenText


@dataclass(frozen=True, slots=True)
class Step:
    """Tokens [start, end) of a trace and their text."""

    start: int
    end: int
    text: str


def split(token_ids: Sequence[int], texts: TokenText, style: str = "lines", most: int | None = None) -> list[Step]:
    """Split a trace into steps.

    Args:
        token_ids: what the policy wrote, the end token included where it did.
        style: where steps end (app/credit/splitters.py).
        most: merge neighbouring steps until at most this many are left.

    Returns:
        Steps in order: the first starts at 0, each starts where the last ended, the last ends with the last token. So
        the end token belongs to the last step. No tokens, no steps; no step is blank unless the whole trace is.
    """
    text, ends = texts.spans(token_ids)
    if not ends:
        return []
    bounds = [0]
    for place in cut(text, style, most):
        token = bisect_left(ends, place) + 1
        if token > bounds[-1] and text[ends[token - 1] :].strip():
            bounds.append(token)
    bounds.append(len(ends))
    at = [0, *ends]
    return [Step(a, b, text[at[a] : at[b]]) for a, b in pairwise(bounds)]
