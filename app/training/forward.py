"""From rows of trees to one log-probability a target token, through any causal language model of transformers."""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

from app.errors import UserError
from app.training.trees import Rows

LOGITS = 2**26  # values of logits held at once; more are computed chunk by chunk and again in the backward pass
SHORT = 192  # tokens of a row up to which plain attention beats SDPA on a CPU (benchmarks.training)


class TokenLogProbs(torch.nn.Module):
    """Wraps a causal LM. Only positions that predict a target go through the output head."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        tokens: torch.Tensor,
        sources: torch.Tensor,
        targets: torch.Tensor,
        positions: torch.Tensor | None = None,
        ends: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Log-probabilities (T,) float32 of the targets; tokens, positions, ends (R, L); sources, targets (T,)."""
        plain = tokens.device.type == "cpu" and tokens.shape[1] <= SHORT
        self.model.config._attn_implementation = "eager" if plain else "sdpa"
        mask = None if ends is None else self.mask(ends)
        body = self.model.base_model(input_ids=tokens, position_ids=positions, attention_mask=mask, use_cache=False)
        hidden = body.last_hidden_state.flatten(0, 1)[sources]
        head = self.model.get_output_embeddings()
        chunk = max(1, LOGITS // head.weight.shape[0]) if head.weight.numel() else len(targets)
        if len(targets) <= chunk or not torch.is_grad_enabled():
            parts = [_log_probs(h, t, head) for h, t in zip(hidden.split(chunk), targets.split(chunk), strict=True)]
        else:
            parts = [
                checkpoint(_log_probs, h, t, head, use_reentrant=False)
                for h, t in zip(hidden.split(chunk), targets.split(chunk), strict=True)
            ]
        return torch.cat(parts)

    def mask(self, ends: torch.Tensor) -> torch.Tensor:
        """The tree mask of app.training.trees as this model's attention wants it, (R, 1, L, L)."""
        at = torch.arange(ends.shape[1], device=ends.device)
        seen = (at[None, None, :] <= at[None, :, None]) & (at[None, :, None] < ends[:, None, :])
        if self.model.config._attn_implementation == "sdpa":
            return seen[:, None]
        dtype = self.model.get_input_embeddings().weight.dtype
        return torch.zeros(seen.shape, dtype=dtype, device=ends.device).masked_fill_(~seen, torch.finfo(dtype).min)[
            :, None
        ]


def _log_probs(hidden: torch.Tensor, targets: torch.Tensor, head: torch.nn.Module) -> torch.Tensor:
    return -torch.nn.functional.cross_entropy(head(hidden).float(), targets, reduction="none")


def tensors(rows: Rows, device: torch.device) -> dict[str, torch.Tensor]:
    """The keyword arguments of TokenLogProbs.forward for a batch."""
    out = {"tokens": rows.tokens, "sources": rows.sources, "targets": rows.targets}
    if rows.ends is not None:  # plain sequences padded on the right need neither: ordinary causal attention is right
        out |= {"positions": rows.positions, "ends": rows.ends}
    return {name: torch.from_numpy(value).to(device) for name, value in out.items()}


def check_head(forward: TokenLogProbs, device: torch.device) -> None:
    """Raise UserError where a model does more to its logits than its output head does (soft capping, scaling).

    The log-probabilities here come from hidden states and the head alone; a model that rescales logits afterwards
    would be trained on the wrong ones.
    """
    tokens = torch.arange(4, device=device)[None]
    at = torch.arange(3, device=device)
    with torch.no_grad():
        ours = forward(tokens, at, tokens[0, 1:])
        logits = forward.model(input_ids=tokens, use_cache=False).logits[0, :-1].float()
        theirs = torch.log_softmax(logits, -1).gather(1, tokens[0, 1:, None])[:, 0]
    if not torch.allclose(ours, theirs, atol=0.05, rtol=0.01):
        name = type(forward.model).__name__
        raise UserError(
            f"{name} changes its logits after the output head, which training does not support; use another model"
        )
