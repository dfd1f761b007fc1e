"""Steps of a trace: consecutive ranges of its token ids. Nothing is ever encoded again.

A splitter looks at the text and says where steps end; a step then ends with the token that completes that character. So
the steps' token ranges, and their texts, always join to the trace, with any tokenizer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from app.credit.splitters import cut

Decode = Callable[[list[int]], str]  # text of token ids, special tokens left out
UNFINISHED = "\ufffd"  # what decoders write for a character whose bytes are not all there


@dataclass(frozen=True, slots=True)
class Step:
    """Tokens [start, end) of a trace and their text."""

    start: int
    end: int
    text: str


class TokenText:
    """Texts of token sequences with the place of every token in them, for one tokenizer."""

    def __init__(self, decode: Decode) -> None:
        self.decode = decode
        self._pieces: dict[int, str] = {}

    def spans(self, token_ids: Sequence[int]) -> tuple[str, list[int]]:
        """The text, and for each token how many characters are complete once it is there (non-decreasing).

        Where decoding is plain concatenation of the tokens' own texts, that is all it takes; otherwise (spaces that
        depend on the neighbours, characters of several tokens) tokens are decoded in a sliding window.
        """
        ids = list(token_ids)
        text = self.decode(ids)
        pieces = [self._piece(token) for token in ids]
        if UNFINISHED not in text and "".join(pieces) == text:
            return text, list(accumulate(len(piece) for piece in pieces))
        return self._windowed(ids)

    def _piece(self, token: int) -> str:
        if token not in self._pieces:
            self._pieces[token] = self.decode([token])
        return self._pieces[token]

    def _windowed(self, ids: list[int]) -> tuple[str, list[int]]:
        """Decode token by token behind a window that gives the decoder its context; unfinished characters wait."""
        text, ends = "", []
        begin = read = 0  # the window's first token, and the first token whose text is not out yet
        for index in range(1, len(ids) + 1):
            known, more = self.decode(ids[begin:read]), self.decode(ids[begin:index])
            if len(more) > len(known) and (not more.endswith(UNFINISHED) or index == len(ids)):
                text += more[len(known) :]
                begin, read = read, index
            ends.append(len(text))
        return text, ends

    def steps(self, token_ids: Sequence[int], style: str = "lines", most: int | None = None) -> list[Step]:
        """Split a trace into steps.

        Args:
            token_ids: what the policy wrote, the end token included where it did.
            style: where steps end (app/credit/splitters.py).
            most: merge neighbouring steps until at most this many are left.

        Returns:
            Steps in order: the first starts at 0, each starts where the last ended, the last ends with the last token. So
            the end token belongs to the last step. No tokens, no steps; no step is blank unless the whole trace is.
        """
        text, ends = self.spans(token_ids)
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
