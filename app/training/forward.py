"""From rows of trees to one log-probability a target token, through any causal language model of transformers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from torch.autograd.function import once_differentiable
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import checkpoint

from app.errors import UserError
from app.training import attention
from app.training.dataset import Dataset
from app.training.losses import per_sequence
from app.training.sequence import Team
from app.training.trees import Rows, grow, pack

LOGITS = 2**26  # values of logits held at once; more are computed chunk by chunk and again in the backward pass
FLEX = 512  # on GPUs rows have a multiple of this many tokens, so that few shapes are compiled

Attention = Literal["tree", "flex", "plain"]


class TokenLogProbs(torch.nn.Module):
    """Wraps a causal LM. Only positions that predict a target go through the output head.

    With `offload`, what the backward pass of the layers needs waits in CPU memory while training.
    """

    def __init__(
        self, model: torch.nn.Module, attention: Attention = "tree", team: Team | None = None, offload: bool = False
    ) -> None:
        super().__init__()
        self.offload = offload
        self.model = model
        self.attention: Attention = attention
        self.team = team or Team()
        self.team.register("tree", "flex_attention")
        self.own = model.config._attn_implementation  # what the model itself would use
        self.last = LastLayer(model)

    def forward(
        self,
        tokens: torch.Tensor,
        sources: torch.Tensor,
        targets: torch.Tensor,
        positions: torch.Tensor | None = None,
        ends: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Log-probabilities (T,) float32 of the targets; tokens, positions, ends (R, L); sources, targets (T,).

        Without ends each row is one plain sequence, padded on the right, and every worker of a team computes it whole.
        """
        if ends is None:
            self._attend(self.own)
            return self._run(tokens, sources, targets)
        assert positions is not None
        tokens, positions = tokens.view(1, -1), positions.view(1, -1)
        how = self._look(_one_row(ends))
        if self.team.size == 1:
            return self._run(tokens, sources, targets, position_ids=positions, **how)
        part = self.team.slice(tokens.shape[1])
        at = torch.nonzero((sources >= part.start) & (sources < part.stop))[:, 0]
        own = self._run(tokens[:, part], sources[at] - part.start, targets[at], position_ids=positions[:, part], **how)
        return self.team.joined(own, at, len(targets))

    @property
    def multiple(self) -> int:
        """Rows of trees must be made longer to a multiple of this many tokens."""
        return math.lcm(FLEX if self.attention == "flex" else 1, self.team.size)

    def _run(self, tokens: torch.Tensor, sources: torch.Tensor, targets: torch.Tensor, **how: Any) -> torch.Tensor:
        away = save_on_cpu(pin_memory=tokens.is_cuda) if self.offload and self.training else nullcontext()
        with self.last.only(sources), away:
            body = self.model.base_model(input_ids=tokens, use_cache=False, **how)
        return self._log_probs(body.last_hidden_state.flatten(0, 1)[sources], targets)

    def _look(self, ends: torch.Tensor) -> dict[str, Any]:
        """Switch to the attention that takes trees; what it has to know of them, ends (N,)."""
        if self.attention == "flex":
            self._attend(self.team.attention("flex_attention"))
            return {"attention_mask": attention.block_mask(ends)}
        self._attend(self.team.attention("tree"))
        return {"blocks": attention.blocks(ends.cpu().numpy())}

    def _attend(self, name: str) -> None:
        if self.model.config._attn_implementation != name:
            self.model.set_attn_implementation(name)

    def _log_probs(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        head = self.model.get_output_embeddings()
        chunk = max(1, LOGITS // self.model.config.get_text_config().vocab_size)
        count = _agreed(max(1, -(-len(targets) // chunk)), head)
        parts = list(zip(hidden.tensor_split(count), targets.tensor_split(count), strict=True))
        if len(parts) > 1 and torch.is_grad_enabled():
            return torch.cat([checkpoint(_chunk, h, t, head, use_reentrant=False) for h, t in parts])
        return torch.cat([_chunk(h, t, head) for h, t in parts])


def _agreed(calls: int, head: Any) -> int:
    """How often to call the head. Under ZeRO 3 each call gathers its weights from all workers: all call it as often as
    the one with the most targets, or they would wait for each other for ever.
    """
    if not hasattr(head.weight, "ds_id"):
        return calls
    most = torch.tensor([calls], device=head.weight.device)
    dist.all_reduce(most, op=dist.ReduceOp.MAX)
    return int(most)


class LastLayer:
    """Lets the last layer's MLP see only the positions that predict a target: what it says elsewhere is never read.

    For models with the usual `layers[-1].mlp` of `down_proj`; not under gradient checkpointing, which calls the layer
    again later.
    """

    def __init__(self, model: Any) -> None:
        self.body = model.base_model
        self.wanted: torch.Tensor | None = None
        layers = getattr(self.body, "layers", None)
        mlp = getattr(layers[-1], "mlp", None) if layers else None
        if mlp is not None and hasattr(mlp, "down_proj"):
            mlp.register_forward_pre_hook(self._pick)
            mlp.register_forward_hook(self._put)

    @contextmanager
    def only(self, sources: torch.Tensor) -> Iterator[None]:
        """During a call of the model: sources (T,) into its flattened positions."""
        self.wanted = None if self.body.is_gradient_checkpointing else torch.unique(sources)
        try:
            yield
        finally:
            self.wanted = None

    def _pick(self, _: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        if self.wanted is None:
            return None
        self.shape = inputs[0].shape
        return (inputs[0].flatten(0, 1).index_select(0, self.wanted),)

    def _put(self, _: torch.nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor | None:
        if self.wanted is None:
            return None
        whole = output.new_zeros(self.shape.numel() // self.shape[-1], output.shape[-1])
        return whole.index_copy(0, self.wanted, output).view(*self.shape[:-1], -1)


def _chunk(hidden: torch.Tensor, targets: torch.Tensor, head: torch.nn.Module) -> torch.Tensor:
    return _Picked.apply(head(hidden), targets)


class _Picked(torch.autograd.Function):
    """Log-softmax at one place a row. The gradient takes the place of the logits: (T, V) is held once, not three
    times.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        total = torch.logsumexp(logits.float(), -1)
        ctx.save_for_backward(logits, targets, total)
        return logits.gather(1, targets[:, None])[:, 0].float() - total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        logits, targets, total = ctx.saved_tensors
        shares = logits.sub_(total[:, None]) if logits.dtype == torch.float32 else logits.float() - total[:, None]
        shares = shares.exp_().mul_(-gradient[:, None])
        shares[torch.arange(len(targets), device=targets.device), targets] += gradient
        return shares.to(logits.dtype), None


def _one_row(ends: torch.Tensor) -> torch.Tensor:
    """ends (R, L) of rows -> (R * L,) of one row: trees of different rows do not see each other anyhow."""
    offsets = torch.arange(len(ends), device=ends.device)[:, None] * ends.shape[1]
    return (ends + offsets).view(-1)


def batch(forward: TokenLogProbs, dataset: Dataset, indices: np.ndarray) -> Rows:
    """Examples as the rows that suit the model's attention."""
    if forward.attention == "plain":
        return dataset.rows(indices, share=False, budget=0)
    return dataset.rows(indices, multiple=forward.multiple)


def sequence_log_probs(
    forward: Callable[..., torch.Tensor],
    rows: Rows,
    device: torch.device,
    of: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Summed log-probabilities of a batch's completions, (sequences,) float32, 0 for one without targets.

    With `of`, the sums of what it makes of the tokens' log-probabilities, (T,) -> (T,).
    """
    logps = forward(**tensors(rows, device))
    owners = torch.from_numpy(rows.owners).to(device)
    return per_sequence(of(logps) if of else logps, owners, rows.sequences)


def tensors(rows: Rows, device: torch.device) -> dict[str, torch.Tensor]:
    """The keyword arguments of TokenLogProbs.forward for a batch."""
    out = {"tokens": rows.tokens, "sources": rows.sources, "targets": rows.targets}
    if rows.ends is not None:  # plain sequences padded on the right need neither: ordinary causal attention is right
        out |= {"positions": rows.positions, "ends": rows.ends}
    return {name: torch.from_numpy(value).to(device) for name, value in out.items()}


def attention_for(model: Any, device: torch.device, max_length: int) -> tuple[Attention, str]:
    """The attention to train a model with, and why trees are impossible where they are (else an empty text)."""
    config = model.config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    narrow = min([w for w in windows if w] or [max_length])
    if getattr(model, "_is_stateful", False):
        return "plain", "it carries a state from token to token, and a state cannot branch"
    if not model._supports_attention_backend:
        return "plain", "its attention cannot be replaced"
    if narrow < max_length:
        return "plain", f"it looks back {narrow} tokens only, fewer than max_length {max_length}"
    if device.type == "cuda":
        return ("flex", "") if model._supports_flex_attn else ("plain", "it does not support FlexAttention")
    return "tree", ""


def check_tree(forward: TokenLogProbs, device: torch.device) -> str:
    """Compare a small tree with its sequences one at a time. Returns what is wrong, an empty text where they agree."""
    prompts = [np.array([1, 2, 3]), np.array([1, 2, 3, 4])]
    completions = [np.array([4, 5, 2, 1]), np.array([3, 3])]
    rows = pack([grow(prompts, completions)], [np.arange(2)], 2, multiple=forward.multiple)
    with torch.no_grad():
        try:
            ours = forward(**tensors(rows, device))
        except attention.NotPassedOn:
            return "it does not pass arguments on to its attention"
        alone = [pack([grow([p], [c])], [np.arange(1)], 1) for p, c in zip(prompts, completions, strict=True)]
        theirs = torch.cat([forward(**tensors(row, device)) for row in alone])
    near = 1e-3 if ours.dtype == forward.model.dtype else 0.1
    by_owner = ours[torch.from_numpy(np.argsort(rows.owners, kind="stable")).to(device)]
    if torch.allclose(by_owner, theirs, atol=near, rtol=near):
        return ""
    worst = float((by_owner - theirs).abs().max())
    return f"over a shared trunk its log-probabilities come out different, by up to {worst:.2g}"


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
