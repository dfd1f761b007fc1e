"""Trees, packed sequences and one sequence at a time: the same losses and gradients, by the code that trains.

Each way is compared with float32 one by one. In float32 they may differ by rounding alone; in bf16 trees and packed
rows may be as far from it as one by one is in bf16, times two.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from app.training import attention
from app.training.dataset import Dataset
from app.training.forward import TokenLogProbs, attention_for, batch, sequence_log_probs
from app.training.objectives import Batch, Pairs
from app.training.settings import PreferenceSettings
from app.training.trees import Rows
from benchmarks.gpu_parts import models, trees
from benchmarks.gpu_parts.case import FAILED, Case, Setup
from benchmarks.table import Row, row

SHAPES = ((8, 4), (64, 16), (2, 1), (64, 1), (16, 8), (2, 16))  # branches, depth
QUICK = ((8, 4), (64, 16), (2, 1))
EXACT = 1e-4  # relative error that float32's rounding explains
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Learned(NamedTuple):
    """What a training step would see: losses (pairs,), and the gradient of their mean as one vector, float64."""

    losses: torch.Tensor
    gradient: torch.Tensor

    def error(self, truth: Learned) -> float:
        """Relative distance of the worse of losses and gradient."""
        return max(float((ours - theirs).norm() / theirs.norm()) for ours, theirs in zip(self, truth, strict=True))


def cases(setup: Setup) -> list[Case]:
    size = "small" if setup.device == "cuda" else "tiny"
    shapes = QUICK if setup.quick else SHAPES
    out = [
        Case(f"equality, {family}, {branches} branches, depth {depth}, {precision}", partial(compare, setup, *what))
        for precision in DTYPES
        for family in models.FAMILIES
        for branches, depth in shapes
        for what in [(f"{size}-{family}", branches, depth, precision)]
    ]
    if (
        setup.device == "cpu" and not setup.quick
    ):  # training on CPUs has an attention of its own; this is the GPUs', compiled for a CPU
        out.append(
            Case("equality, FlexAttention on a CPU, 8 branches, depth 4, fp32", partial(flex_values, setup), 300)
        )
    return out


@lru_cache(maxsize=2)
def loaded(shape: str, device: str, dtype: torch.dtype) -> TokenLogProbs:
    """A model in evaluation mode with the attention that training would choose for it."""
    attention.register()
    with tempfile.TemporaryDirectory() as folder:
        models.save(Path(folder), shape, "cpu", spread=True)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()
    return TokenLogProbs(model, attention_for(model, torch.device(device), 4096)[0])


def grown(shape: str, branches: int, depth: int, setup: Setup) -> Dataset:
    sizes = trees.LARGE if setup.device == "cuda" else trees.TINY
    return trees.dataset(trees.pairs(branches, depth, sizes, models.vocabulary_of(shape)), 4096)


def compare(setup: Setup, shape: str, branches: int, depth: int, precision: str) -> list[Row]:
    """A row for trees and one for packed rows: their error, and that of one by one in the same precision."""
    data = grown(shape, branches, depth, setup)
    device = torch.device(setup.device)
    truth = one_by_one(loaded(shape, setup.device, torch.float32), data, device)
    model = loaded(shape, setup.device, DTYPES[precision])
    alone = one_by_one(model, data, device).error(truth)
    limit = max(EXACT, 2 * alone)
    ways: dict[str, Callable[..., Rows]] = {"trees": shared, "packed": packed}
    out = []
    for name, rows_of in ways.items():
        error = learned(model, data, [np.arange(len(data))], rows_of, device).error(truth)
        what = f"{name} by {model.attention} attention, {shape}, {branches} branches, depth {depth}, {precision}"
        against = ("one by one", alone) if alone else (None, None)
        found = row(what, error, "relative error", *against, lower_is_better=True)
        out.append(judged(found, error <= limit, f"above {limit:.2g}"))
    return out


def judged(found: Row, well: bool, why: str) -> Row:
    """A row that says whether what it shows is right."""
    return replace(found, note="" if well else f"{FAILED}{why}")


def shared(model: TokenLogProbs, data: Dataset, indices: np.ndarray) -> Rows:
    """What training makes of a batch: one tree a problem."""
    return batch(model, data, indices)


def packed(model: TokenLogProbs, data: Dataset, indices: np.ndarray) -> Rows:
    """Each sequence a tree of its own, in one row."""
    return data.rows(indices, share=False, multiple=model.multiple)


def one_by_one(model: TokenLogProbs, data: Dataset, device: torch.device) -> Learned:
    """A pair at a time, by the attention that the model itself has."""
    kind, model.attention = model.attention, "plain"
    try:
        return learned(model, data, [np.array([i]) for i in range(len(data))], shared, device)
    finally:
        model.attention = kind


def learned(
    model: TokenLogProbs,
    data: Dataset,
    parts: list[np.ndarray],
    rows_of: Callable[[TokenLogProbs, Dataset, np.ndarray], Rows],
    device: torch.device,
) -> Learned:
    """DPO's losses and gradient over micro-batches."""
    objective = Pairs(PreferenceSettings(steps=1))
    model.zero_grad(set_to_none=True)
    sums: dict[str, torch.Tensor] = {}
    losses = []
    for indices in parts:
        policy = sequence_log_probs(model, rows_of(model, data, indices), device).view(len(indices), -1)
        lengths = torch.from_numpy(data.completion_lengths(indices)).to(device)
        ones = torch.ones(len(indices), device=device)
        reference = -1.0 * lengths  # any; the same for all
        seen = Batch(policy, reference, lengths, ones, ones.bool())
        loss, _ = objective.loss(seen)
        (loss / len(data)).backward()
        losses.append(policy.detach().double().flatten().cpu())
        for name, parameter in model.named_parameters():
            part = parameter.grad.detach().double()
            sums[name] = sums[name] + part if name in sums else part
        model.zero_grad(set_to_none=True)
    return Learned(torch.cat(losses), torch.cat([part.flatten() for part in sums.values()]).cpu())


def flex_values(setup: Setup) -> list[Row]:
    """The GPUs' attention where there is none. On CPUs it has no backward pass: log-probabilities only."""
    shape = "tiny-llama"
    data = grown(shape, 8, 4, setup)
    model, device = loaded(shape, "cpu", torch.float32), torch.device("cpu")
    model.attention = "flex"
    with torch.no_grad():
        ours = sequence_log_probs(model, shared(model, data, np.arange(len(data))), device)
        model.attention = "plain"
        theirs = sequence_log_probs(model, shared(model, data, np.arange(len(data))), device)
    error = float((ours - theirs).norm() / theirs.norm())
    found = row("trees by flex attention, compiled for a CPU, values only, fp32", error, "relative error")
    return [judged(found, error <= EXACT, f"above {EXACT:.2g}")]
