"""Attention over trees without a mask of (tokens x tokens): in blocks on CPUs, by FlexAttention on GPUs.

A batch is one row of tokens in preorder (app.training.trees). It falls into runs, chains without a fork; a token sees
the runs above its own, wholly, and its own run up to itself. So each block of a run is ordinary attention over a few
slices of keys, causal only in its last square, and nothing is computed for tokens that do not see each other.
Scores are computed again in the backward pass: memory grows with the tokens, not with their square.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from app.errors import UserError

BLOCK = 64  # queries at once; 48 to 96 differ little on a CPU
SMALL = 128  # tokens of a tree up to which it is one block: fewer operations are worth some masked scores


class Block(NamedTuple):
    """Queries [start, stop), the slices of keys they see, and what is added to the scores of the last stop - start
    keys, which are their own: 0, or -inf where a query must not look.
    """

    start: int
    stop: int
    keys: tuple[tuple[int, int], ...]
    bias: torch.Tensor


class NotPassedOn(RuntimeError):
    """A model that keeps the blocks from its attention layers."""


def blocks(ends: np.ndarray) -> list[Block]:
    """Cut a row of trees, ends (N,), into blocks: a small tree whole, others run by run."""
    out, root = [], 0
    while root < len(ends):
        stop = int(ends[root])
        if stop - root <= SMALL:
            out.append(Block(root, stop, ((root, stop),), _bias(ends[root:stop] - root)))
        else:
            out += _runs(ends, root, stop)
        root = stop
    return out


def _runs(ends: np.ndarray, root: int, end: int) -> list[Block]:
    """The blocks of the tree [root, end)."""
    cuts = root + 1 + np.flatnonzero(np.diff(ends[root:end]))
    above: list[tuple[int, int]] = []  # the runs that the current one hangs from
    out = []
    for start, stop in itertools.pairwise([root, *cuts.tolist(), end]):
        while above and ends[above[-1][0]] <= start:
            above.pop()
        for low in range(start, stop, BLOCK):
            high = min(low + BLOCK, stop)
            out.append(Block(low, high, _joined([*above, (start, high)]), _later(high - low)))
        above.append((start, stop))
    return out


def _bias(ends: np.ndarray) -> torch.Tensor:
    """The rule of app.training.trees for one tree, (n, n)."""
    at = np.arange(len(ends))
    seen = (at[None, :] <= at[:, None]) & (at[:, None] < ends[None, :])
    return torch.from_numpy(np.where(seen, np.float32(0), np.float32("-inf")))


@lru_cache(maxsize=BLOCK)
def _later(size: int) -> torch.Tensor:
    """The same for a chain of tokens."""
    return _bias(np.full(size, size))


def _joined(spans: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Spans with neighbours made one, so that fewer keys are copied."""
    out = [spans[0]]
    for low, high in spans[1:]:
        if out[-1][1] == low:
            out[-1] = (out[-1][0], high)
        else:
            out.append((low, high))
    return tuple(out)


def tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    scaling: float | None = None,
    dropout: float = 0.0,
    blocks: list[Block] | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls for `tree`: query (1, H, N, D), key and value (1, K, N, D) -> (1, N, H, D)."""
    if blocks is None:
        raise NotPassedOn("tree attention without its blocks; for other use call set_attn_implementation('sdpa')")
    if dropout:
        raise UserError("training has no attention dropout: set it to 0 in the model's config.json")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return _TreeAttention.apply(query[0], key[0], value[0], blocks, scale)[None], None


class _TreeAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: list[Block], scale: float
    ) -> torch.Tensor:
        query = query * scale
        out = query.new_empty(query.shape[1], query.shape[0], value.shape[-1])
        for block in blocks:
            shares = _shares(_grouped(query, block, len(key)), _picked(key, block), block)
            mixed = torch.bmm(shares, _picked(value, block))
            out[block.start : block.stop] = mixed.view(len(query), block.stop - block.start, -1).transpose(0, 1)
        ctx.save_for_backward(query, key, value)
        ctx.blocks, ctx.scale = blocks, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        by_head = gradient.transpose(0, 1)
        d_query = torch.empty_like(query)
        d_key, d_value = torch.zeros_like(key), torch.zeros_like(value)
        for block in ctx.blocks:
            asked, wanted = _grouped(query, block, len(key)), _grouped(by_head, block, len(key))
            keys = _picked(key, block)
            shares = _shares(asked, keys, block)
            d_shares = torch.bmm(wanted, _picked(value, block).transpose(1, 2))
            d_scores = torch._softmax_backward_data(d_shares, shares, -1, shares.dtype)
            d_query[:, block.start : block.stop] = torch.bmm(d_scores, keys).view(len(query), -1, query.shape[-1])
            _add(d_key, block, torch.bmm(d_scores.transpose(1, 2), asked))
            _add(d_value, block, torch.bmm(shares.transpose(1, 2), wanted))
        return d_query.mul_(ctx.scale), d_key, d_value, None, None


def _grouped(heads: torch.Tensor, block: Block, groups: int) -> torch.Tensor:
    """A block's queries by key head: (H, N, D) -> (K, H / K * n, D)."""
    return heads[:, block.start : block.stop].reshape(groups, -1, heads.shape[-1])


def _picked(heads: torch.Tensor, block: Block) -> torch.Tensor:
    """The keys or values a block sees, (K, m, D)."""
    parts = [heads[:, low:high] for low, high in block.keys]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _add(heads: torch.Tensor, block: Block, part: torch.Tensor) -> None:
    """The reverse of _picked: add (K, m, D) where it came from."""
    at = 0
    for low, high in block.keys:
        heads[:, low:high] += part[:, at : at + high - low]
        at += high - low


def _shares(query: torch.Tensor, key: torch.Tensor, block: Block) -> torch.Tensor:
    """How much each query looks at each key, (K, G n, m)."""
    scores, size = torch.bmm(query, key.transpose(1, 2)), block.stop - block.start
    own = scores.view(len(key), -1, size, key.shape[1])[..., -size:]
    own += block.bias
    return torch.softmax(scores, -1)


def block_mask(ends: torch.Tensor) -> Any:
    """The same rule for FlexAttention, ends (N,)."""
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(_b: Any, _h: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return (key <= query) & (query < ends[key])

    return create_block_mask(seen, None, None, len(ends), len(ends), device=str(ends.device))


def register() -> None:
    """Make `tree` an attention of transformers. It needs no mask, so none is made for it."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register("tree", tree_attention)
    AttentionMaskInterface.register("tree", lambda *_, **__: None)
