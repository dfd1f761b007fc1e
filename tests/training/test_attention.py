"""Attention in blocks, and FlexAttention's mask, against attention under a dense mask: values and gradients."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UserError
from app.training import attention
from app.training.trees import grow

torch.set_num_threads(1)  # several threads on busy cores wait for each other far longer than they compute

TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=12)
FOREST = st.lists(st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=4), min_size=1, max_size=3)


def ends_of(forest: list[list[tuple[list[int], list[int]]]]) -> np.ndarray:
    parts, at = [], 0
    for sequences in forest:
        tree = grow([np.array(p, np.int32) for p, _ in sequences], [np.array(c, np.int32) for _, c in sequences])
        parts.append(tree.ends + at)
        at += len(tree)
    return np.concatenate(parts)


def dense(ends: torch.Tensor) -> torch.Tensor:
    at = torch.arange(len(ends))
    return (at[None, :] <= at[:, None]) & (at[:, None] < ends[None, :])


def heads(size: int, query: int = 4, key: int = 2) -> list[torch.Tensor]:
    """Query, key and value with the memory layout of a model's projections, key heads fewer than query heads."""
    torch.manual_seed(0)
    return [torch.randn(1, size, n, 8).transpose(1, 2).requires_grad_() for n in (query, key, key)]


def under_mask(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ends: np.ndarray) -> torch.Tensor:
    mask = dense(torch.from_numpy(ends))[None, None]
    out = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
    return out.transpose(1, 2)


@pytest.mark.parametrize(("block", "small"), [(64, 128), (64, 0), (3, 0), (3, 9)])
@given(FOREST)
def test_blocks_are_attention_under_the_tree_mask(
    block: int, small: int, forest: list[list[tuple[list[int], list[int]]]]
) -> None:
    ends = ends_of(forest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "BLOCK", block)
        patch.setattr(attention, "SMALL", small)
        blocks = attention.blocks(ends)
    assert [i for b in blocks for i in range(b.start, b.stop)] == list(range(len(ends)))
    inputs = heads(len(ends))
    got, _ = attention.tree_attention(SimpleNamespace(), *inputs, None, blocks=blocks)  # type: ignore[arg-type]
    wanted = under_mask(*inputs, ends)
    weight = torch.randn(wanted.shape)
    assert torch.allclose(got, wanted, atol=1e-5)
    for mine, theirs in zip(
        torch.autograd.grad(got, inputs, weight), torch.autograd.grad(wanted, inputs, weight), strict=True
    ):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_tokens_of_a_long_tree_do_not_score_tokens_they_cannot_see() -> None:
    trunk, branch = 100, 50
    ends = np.array([200] * trunk + [150] * branch + [200] * branch)
    blocks = attention.blocks(ends)
    assert blocks[0].keys == ((0, 64),)
    assert blocks[2].keys == ((0, 150),)  # the first branch goes on where the trunk ends
    assert blocks[3].keys == ((0, 100), (150, 200))
    scored = sum((b.stop - b.start) * sum(high - low for low, high in b.keys) for b in blocks)
    assert scored < 0.6 * 200 * 200


def test_scores_are_made_again_in_the_backward_pass() -> None:
    """What is kept between the passes grows with the tokens, not with their square."""
    kept: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    size = 600
    inputs = heads(size)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        ends = np.full(size, size)
        attention.tree_attention(SimpleNamespace(), *inputs, None, blocks=attention.blocks(ends))  # type: ignore[arg-type]
    assert kept
    assert max(kept) <= max(tensor.numel() for tensor in inputs)


def test_flex_attention_has_the_same_rule() -> None:
    """FlexAttention has no backward pass on CPUs, so values only."""
    from torch.nn.attention.flex_attention import flex_attention

    ends = ends_of([[([1, 0, 1], [1, 1]), ([1, 0, 1], [0, 0, 1])], [([0], [1, 1, 1]), ([0, 1], [0])]])
    query, key, value = (tensor.detach() for tensor in heads(len(ends)))
    mask = attention.block_mask(torch.from_numpy(ends))
    got = flex_attention(query, key, value, block_mask=mask, enable_gqa=True)
    assert torch.allclose(got.transpose(1, 2), under_mask(query, key, value, ends), atol=1e-5)


def test_attention_dropout_is_refused() -> None:
    blocks = attention.blocks(np.array([3, 3, 3]))
    with pytest.raises(UserError, match="no attention dropout"):
        attention.tree_attention(SimpleNamespace(), *heads(3), None, dropout=0.1, blocks=blocks)  # type: ignore[arg-type]
