"""Trees hold exactly their sequences, and the mask lets each token see its own past and nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.training.trees import Rows, Tree, common_prefix, grow, pack

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=6)  # few values, so that prefixes are often shared
SEQUENCES = st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=5)


def tree_of(sequences: list[tuple[list[int], list[int]]]) -> Tree:
    return grow([np.array(p, np.int32) for p, _ in sequences], [np.array(c, np.int32) for _, c in sequences])


def numbered(sizes: list[int]) -> list[np.ndarray]:
    """Sequences numbered through, tree by tree."""
    first = np.cumsum([0, *sizes])
    return [np.arange(first[i], first[i + 1]) for i in range(len(sizes))]


def seen(ends: np.ndarray) -> np.ndarray:
    at = np.arange(len(ends))
    return (at[None, :] <= at[:, None]) & (at[:, None] < ends[None, :])


@given(SEQUENCES)
def test_each_target_sees_exactly_its_sequence_before_it(sequences: list[tuple[list[int], list[int]]]) -> None:
    tree = tree_of(sequences)
    mask = seen(tree.ends)
    for owner, (prompt, completion) in enumerate(sequences):
        own = tree.owners == owner
        assert tree.targets[own].tolist() == completion
        for k, source in enumerate(tree.sources[own]):
            visible = np.flatnonzero(mask[source])
            assert tree.tokens[visible].tolist() == (prompt + completion)[: len(prompt) + k]
            assert tree.positions[visible].tolist() == list(range(len(prompt) + k))


@given(SEQUENCES)
def test_a_tree_is_a_trie(sequences: list[tuple[list[int], list[int]]]) -> None:
    prefixes = {tuple((p + c)[: i + 1]) for p, c in sequences for i in range(len(p + c))}
    assert len(tree_of(sequences)) == len(prefixes)


@given(st.lists(SEQUENCES, min_size=1, max_size=4), st.none() | st.integers(0, 60))
def test_packing_keeps_every_tree_whole_and_apart(
    groups: list[list[tuple[list[int], list[int]]]], budget: int | None
) -> None:
    trees = [tree_of(group) for group in groups]
    flat = [sequence for group in groups for sequence in group]
    rows = pack(trees, numbered([len(group) for group in groups]), len(flat), budget)
    assert rows.sequences == len(flat)
    longest = max(len(tree) for tree in trees)
    if budget is None:
        assert rows.tokens.shape == (1, sum(len(tree) for tree in trees))
    else:
        assert rows.tokens.shape[1] <= max(budget, longest)
    for owner, (prompt, completion) in enumerate(flat):
        own = rows.owners == owner
        assert rows.targets[own].tolist() == completion
        for k, source in enumerate(rows.sources[own]):
            assert visible_tokens(rows, int(source)) == (prompt + completion)[: len(prompt) + k]


def visible_tokens(rows: Rows, source: int) -> list[int]:
    """Tokens that position `source` of the flattened rows may look at."""
    row, at = divmod(source, rows.tokens.shape[1])
    if rows.ends is None:
        return rows.tokens[row, : at + 1].tolist()
    return rows.tokens[row, np.flatnonzero(seen(rows.ends[row])[at])].tolist()


def test_a_pair_over_one_trunk_costs_trunk_and_branches() -> None:
    tree = tree_of([([5, 6, 7], [1, 2]), ([5, 6, 7], [3, 4, 5])])
    assert len(tree) == 3 + 2 + 3
    assert tree.positions.tolist() == [0, 1, 2, 3, 4, 3, 4, 5]
    assert tree.ends.tolist() == [8, 8, 8, 5, 5, 8, 8, 8]
    assert not tree.chain


def test_plain_sequences_need_no_mask() -> None:
    trees = [tree_of([([1, 2], [0])]), tree_of([([2], [1])])]
    assert all(tree.chain for tree in trees)
    assert pack(trees, numbered([1, 1]), 2, budget=0).ends is None
    assert pack(trees, numbered([1, 1]), 2, budget=10).ends is not None
    assert pack(trees[:1], numbered([1]), 1).ends is None


def test_padding_sees_itself_so_that_no_softmax_is_empty() -> None:
    rows = pack([tree_of([([1, 2], [0]), ([1, 2], [1])]), tree_of([([2], [1])])], numbered([2, 1]), 3, 0)
    assert rows.ends is not None
    assert all(seen(ends).diagonal().all() for ends in rows.ends)


@given(TOKENS, TOKENS)
def test_common_prefix(a: list[int], b: list[int]) -> None:
    size = common_prefix(np.array(a), np.array(b))
    assert a[:size] == b[:size]
    assert size in (len(a), len(b)) or a[size] != b[size]


def test_rows_are_filled_up_to_a_multiple_with_padding_that_no_one_sees() -> None:
    rows = pack([tree_of([([1, 2], [0, 1])])], numbered([1]), 1, multiple=8)
    assert rows.tokens.shape == (1, 8)
    assert rows.ends is not None
    assert visible_tokens(rows, 2) == [1, 2, 0]
    assert rows.ends[0, 4:].tolist() == [5, 6, 7, 8]
