"""Sequences that share a prefix, computed over one trunk with the rest as branches.

A tree is the trie of its sequences in preorder, four integers a token: the token, its position in its sequence, and
`end`, the index where its subtree ends. Token q may look at token k when k <= q < end[k]: that one rule is causal
attention along every branch, keeps branches and neighbouring trees apart, and needs no table of who belongs to whom.
Prefix sharing for preference pairs: arXiv 2410.20305; here any number of sequences and forks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tree:
    """A trie of sequences. All arrays are int32; N tokens in the tree, T targets."""

    tokens: np.ndarray  # (N,)
    positions: np.ndarray  # (N,)
    ends: np.ndarray  # (N,) index after the last token of the subtree
    sources: np.ndarray  # (T,) index of the token whose hidden state predicts the target
    targets: np.ndarray  # (T,) token ids with a loss
    owners: np.ndarray  # (T,) which sequence, in the order they were given

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def chain(self) -> bool:
        """Whether this is one plain sequence, for which ordinary causal attention is right."""
        return bool((self.ends == len(self.tokens)).all())


def grow(prompts: Sequence[np.ndarray], completions: Sequence[np.ndarray]) -> Tree:
    """The tree of sequences prompt + completion; only completion tokens become targets. Prompts must not be empty."""
    whole = [np.concatenate(pair) for pair in zip(prompts, completions, strict=True)]
    order = sorted(range(len(whole)), key=lambda i: whole[i].tolist()) if len(whole) > 1 else [0]
    tokens: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    paths: dict[int, np.ndarray] = {}
    size, path = 0, np.zeros(0, np.int32)
    last: np.ndarray = np.zeros(0, np.int32)
    for index in order:
        shared, new = common_prefix(last, whole[index]), whole[index]
        added = len(new) - shared
        tokens.append(new[shared:])
        positions.append(np.arange(shared, len(new), dtype=np.int32))
        path = np.concatenate([path[:shared], np.arange(size, size + added, dtype=np.int32)])
        paths[index], last, size = path, new, size + added
    ends = np.zeros(size, np.int32)
    for path in paths.values():  # a node's subtree ends after the last node of any path through it
        ends[path] = np.maximum(ends[path], path[-1] + 1)
    sources = [paths[i][len(p) - 1 : -1] for i, p in enumerate(prompts)]
    return Tree(
        np.concatenate(tokens).astype(np.int32),
        np.concatenate(positions),
        ends,
        np.concatenate(sources).astype(np.int32),
        np.concatenate(list(completions)).astype(np.int32),
        np.repeat(np.arange(len(completions), dtype=np.int32), [len(c) for c in completions]),
    )


def common_prefix(a: np.ndarray, b: np.ndarray) -> int:
    """How many leading tokens two sequences share."""
    size = min(len(a), len(b))
    different = np.flatnonzero(a[:size] != b[:size])
    return int(different[0]) if len(different) else size


@dataclass(frozen=True)
class Rows:
    """A batch of packed trees, (R, L), with the targets of all of them, (T,). Numpy; app.training.forward makes
    tensors.
    """

    tokens: np.ndarray  # (R, L) int64, padded with token 0
    positions: np.ndarray  # (R, L) int64
    ends: np.ndarray | None  # (R, L) int64 within the row; None where every row is one plain sequence
    sources: np.ndarray  # (T,) int64, into the flattened (R * L) hidden states
    targets: np.ndarray  # (T,) int64
    owners: np.ndarray  # (T,) int64: number of the sequence in the batch
    sequences: int  # of the batch; one without targets is a branch an example does not have

    @property
    def computed(self) -> int:
        """Tokens the model runs over, padding included."""
        return int(self.tokens.size)


def pack(
    trees: Sequence[Tree],
    numbers: Sequence[np.ndarray],
    sequences: int,
    budget: int | None = None,
    multiple: int = 1,
) -> Rows:
    """Put trees into rows of at most `budget` tokens; a tree is never split, and 0 gives each tree its own row.

    With no budget all are one row, without padding. Rows are made longer to a multiple of `multiple` tokens.
    `numbers[i]` are the numbers of tree i's sequences among the batch's `sequences`.
    """
    rows = [list(range(len(trees)))] if budget is None else _fill(trees, budget)
    length = max(sum(len(trees[i]) for i in row) for row in rows)
    length = -(-length // multiple) * multiple
    shape = (len(rows), length)
    tokens, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    ends = np.tile(np.arange(1, length + 1), (len(rows), 1))  # padding sees itself only
    sources, targets, owners = [], [], []
    for r, row in enumerate(rows):
        at = 0
        for i in row:
            tree = trees[i]
            span = slice(at, at + len(tree))
            tokens[r, span], positions[r, span], ends[r, span] = tree.tokens, tree.positions, tree.ends + at
            sources.append(tree.sources.astype(np.int64) + r * length + at)
            targets.append(tree.targets.astype(np.int64))
            owners.append(numbers[i][tree.owners])
            at += len(tree)
    plain = multiple == 1 and all(len(row) == 1 and trees[row[0]].chain for row in rows)
    return Rows(
        tokens,
        positions,
        None if plain else ends,
        np.concatenate(sources),
        np.concatenate(targets),
        np.concatenate(owners),
        sequences,
    )


def _fill(trees: Sequence[Tree], budget: int) -> list[list[int]]:
    """Best-fit decreasing: the longest tree first, into the fullest row that still has room."""
    rows: list[list[int]] = []
    free: list[int] = []
    for i in sorted(range(len(trees)), key=lambda i: -len(trees[i])):
        room = [(left, r) for r, left in enumerate(free) if left >= len(trees[i])]
        if room:
            left, r = min(room)
            rows[r].append(i)
            free[r] = left - len(trees[i])
        else:
            rows.append([i])
            free.append(max(budget - len(trees[i]), 0))
    return rows
