"""Pairs that grow into trees of a stated number of branches and depth; made-up tokens."""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass

from app.records import PreferencePair
from app.store import Output
from app.training.dataset import Dataset, load


@dataclass(frozen=True)
class Sizes:
    """Tokens."""

    prompt: int
    step: int  # of the solution that all branches leave
    branch: int  # on average


LARGE, TINY = Sizes(100, 30, 60), Sizes(8, 4, 6)


def pairs(branches: int, depth: int, sizes: Sizes, vocabulary: int, problem: str = "p0") -> list[PreferencePair]:
    """branches / 2 step pairs of one problem: their pits lie at `depth` places of one solution, one under the other.

    As many places as there are pairs at most, from the last step up; with depth 0 only the prompt is shared.
    """
    rng = random.Random(f"{branches} {depth} {problem}")

    def drawn(size: int) -> list[int]:
        return [rng.randrange(3, vocabulary) for _ in range(size)]

    prompt, solution = drawn(sizes.prompt), [drawn(sizes.step) for _ in range(depth)]
    out = []
    for number in range(branches // 2):
        pit = depth - number % max(1, depth)
        prefix = [token for step in solution[:pit] for token in step]
        chosen, rejected = (drawn(rng.randint(sizes.branch // 2, sizes.branch * 3 // 2)) for _ in range(2))
        row = f"{problem}-{number}"
        out.append(PreferencePair(row, problem, "c", "r", prompt + prefix, len(prefix), chosen, rejected, "", "", ""))
    return out


def dataset(rows: list[PreferencePair], max_length: int) -> Dataset:
    """The rows as training reads them."""
    with tempfile.TemporaryDirectory() as folder:
        output = Output(folder, "datasets/step_dpo", "k")
        output.write_shard(0, PreferencePair.table(rows))
        return load(output, max_length)
