"""Made-up training sets with the lengths of known ones, in tokens of a common tokenizer with a chat template."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

from app.records import Example, PreferencePair


@dataclass(frozen=True)
class Lengths:
    """Tokens: of a prompt, from and to; steps of a solution; of a step."""

    prompt: tuple[int, int]
    steps: tuple[int, int]
    step: tuple[int, int]


LENGTHS = {
    "GSM8K": Lengths((60, 160), (3, 8), (15, 40)),
    "MATH": Lengths((60, 240), (6, 16), (25, 60)),
    "tiny": Lengths((6, 12), (3, 5), (3, 6)),  # for CPUs
}


def flat(steps: list[list[int]]) -> list[int]:
    """Steps as one list of tokens."""
    return list(itertools.chain(*steps))


class Maker:
    """Draws rows."""

    def __init__(self, lengths: Lengths, vocabulary: int) -> None:
        self.lengths, self.vocabulary, self.random = lengths, vocabulary, random.Random(0)

    def tokens(self, span: tuple[int, int]) -> list[int]:
        return [self.random.randrange(3, self.vocabulary) for _ in range(self.random.randint(*span))]

    def solution(self) -> list[list[int]]:
        return [self.tokens(self.lengths.step) for _ in range(self.random.randint(*self.lengths.steps))]

    def examples(self, count: int) -> list[Example]:
        """Prompts with a solution each."""
        return [
            Example(f"e{i}", f"p{i}", None, self.tokens(self.lengths.prompt), flat(self.solution()), "", "")
            for i in range(count)
        ]

    def pairs(self, count: int, problem: int, prefix: bool) -> list[PreferencePair]:
        """`problem` pairs for each problem. With `prefix` each has its pit at some step of one solution and both
        branches go on from there to the end; without, both are whole solutions.
        """
        out: list[PreferencePair] = []
        while len(out) < count:
            prompt, shared = self.tokens(self.lengths.prompt), self.solution()
            for _ in range(problem):
                pit = self.random.randrange(1, len(shared)) if prefix else 0
                before = flat(shared[:pit])
                chosen, rejected = (
                    [token for _ in range(len(shared) - pit) for token in self.tokens(self.lengths.step)]
                    for _ in range(2)
                )
                row = f"p{len(out) // problem}-{len(out)}"
                ids = prompt + before
                out.append(
                    PreferencePair(row, row.split("-")[0], "c", "r", ids, len(before), chosen, rejected, "", "", "")
                )
        return out[:count]
