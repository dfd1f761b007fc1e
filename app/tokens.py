"""Texts of token ids, with the place of every token in them: how a text is cut without encoding it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

Decode = Callable[[list[int]], str]  # text of token ids, special tokens left out
UNFINISHED = "\ufffd"  # what decoders write for a character whose bytes are not all there


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


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common beginning of two token sequences."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
