"""Sequence parallelism: the workers of a team compute each micro-batch together, every one a slice of its tokens.

After DeepSpeed Ulysses (2309.14509). Around attention two exchanges turn (all heads, a slice of the tokens) into
(a share of the heads, all tokens) and back. So attention sees whole rows and works under it unchanged, trees included;
everything else, and the activations kept for the backward pass, are 1 / size of a micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from app.errors import UserError

WHERE = "placement.training.sequence_parallel"

Attend = Callable[..., tuple[torch.Tensor, None]]  # an attention function of transformers


@dataclass(frozen=True)
class Team:
    """This worker's team among `count` teams, and its place there. The default is one worker by itself."""

    size: int = 1
    index: int = 0  # of the team
    count: int = 1
    place: int = 0  # of this worker in its team
    group: Any = None  # the team's process group, where it has several workers

    def slice(self, tokens: int) -> slice:
        """This worker's part of a row, whose tokens are a multiple of `size`."""
        share = tokens // self.size
        return slice(self.place * share, (self.place + 1) * share)

    def joined(self, own: torch.Tensor, at: torch.Tensor, count: int) -> torch.Tensor:
        """Values that each worker has for some of `count` places, `own` (n,) for the places `at` (n,): all (count,).

        A worker's gradient is that of its own values: what the team's workers have together is the whole, once.
        """
        return _Joined.apply(own.new_zeros(count).index_copy(0, at, own), self.group)

    def attention(self, name: str) -> str:
        """What transformers calls the attention `name` among the workers of a team."""
        return name if self.size == 1 else f"ulysses_{name}"

    def register(self, *names: str) -> None:
        """Make attentions of transformers known to it under `attention(name)`. Their masks are given, never made."""
        from transformers import AttentionInterface, AttentionMaskInterface

        if self.size > 1:
            for name in names:
                AttentionInterface.register(self.attention(name), exchanging(AttentionInterface()[name], self.group))
                AttentionMaskInterface.register(self.attention(name), lambda *_, **__: None)

    def check(self, config: Any) -> None:
        """Raise UserError where a model's heads cannot be shared out."""
        for name in ("num_attention_heads", "num_key_value_heads"):
            heads = getattr(config, name, None)
            if heads is not None and heads % self.size:
                raise UserError(f"{WHERE}: {self.size} workers cannot share the model's {heads} {name} evenly")


def team(size: int) -> Team:
    """The team of this rank: neighbours by rank, so that a node holds whole teams. All ranks call it."""
    index, place = divmod(dist.get_rank(), size)
    group = dist.new_subgroups(size)[0] if size > 1 else None
    return Team(size, index, dist.get_world_size() // size, place, group)


class _Joined(torch.autograd.Function):
    """The sum over a group. Every worker computes the same loss from it, so its gradient is not summed again."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, group: Any) -> torch.Tensor:
        out = values.clone()
        dist.all_reduce(out, group=group)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None


def exchanging(inner: Attend, group: Any) -> Attend:
    """An attention over whole rows, for workers with a slice each: query, key and value (1, heads, slice, D)."""
    from deepspeed.sequence.layer import DistributedAttention

    def whole(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, module: Any, mask: Any, how: dict[str, Any]
    ) -> torch.Tensor:
        """Of a share of the heads; tokens before heads, as DeepSpeed has them."""
        return inner(module, query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), mask, **how)[0]

    exchange = DistributedAttention(whole, group, scatter_idx=2, gather_idx=1)

    def attend(
        module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any, **how: Any
    ) -> tuple[torch.Tensor, None]:
        slices = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        return exchange(*slices, 0, None, module, attention_mask, how), None

    return attend
