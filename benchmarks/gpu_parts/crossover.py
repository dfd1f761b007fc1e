"""Where trees pay: forward and backward pass of the same pairs as trees and as packed rows, by width and depth.

A wide and deep tree saves most tokens; its mask has more kinds of blocks. The last row says from which saving on trees
were faster in every case; below it `group: none`, or packing, would be the better default.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from app.training import attention
from app.training.dataset import Dataset
from app.training.forward import TokenLogProbs, attention_for, sequence_log_probs
from app.training.trees import Rows
from benchmarks.gpu_parts import models, trees
from benchmarks.gpu_parts.case import Case, Setup
from benchmarks.gpu_parts.equality import packed, shared
from benchmarks.gpu_parts.rates import clock
from benchmarks.table import Row, row

GRID = ((2, 0), (2, 1), (2, 4), (2, 16), (8, 1), (8, 4), (16, 8), (64, 4), (64, 16))  # branches, depth of the pits
QUICK = ((2, 0), (8, 4))
ROUNDS = 5
TOKENS = 8192  # of the packed rows on a GPU; on a CPU an eighth


def cases(setup: Setup) -> list[Case]:
    return [Case("crossover of trees and packed rows", partial(grid, setup), 400)]


def grid(setup: Setup) -> list[Row]:
    """A row for each shape, and the crossover."""
    model, shape = loaded(setup)
    points, rows = [], []
    for branches, depth in QUICK if setup.quick else GRID:
        data = problems(setup, shape, branches, depth)
        every = np.arange(len(data))
        ways = {"trees": shared(model, data, every), "packing": packed(model, data, every)}
        saving = ways["packing"].computed / ways["trees"].computed
        seconds = {name: timed(setup, model, way) for name, way in ways.items()}
        points.append((saving, seconds["packing"] / seconds["trees"]))
        name = f"trees of {branches} branches, depth {depth}, {saving:.2f} times fewer tokens"
        ours, theirs = 1000 * seconds["trees"], 1000 * seconds["packing"]
        rows.append(row(name, ours, "ms a pass", "packing", theirs, lower_is_better=True))
    return [*rows, crossed(points)]


def crossed(points: list[tuple[float, float]]) -> Row:
    """From (tokens saved, time saved) of each shape: the saving from which on trees were always faster."""
    slower = [saving for saving, faster in points if faster < 1]
    above = [saving for saving, faster in points if faster >= 1 and saving > max(slower, default=0.0)]
    if not above:
        name = "crossover: packed tokens for one of a tree"
        return replace(row(name, max(slower), "times"), note="trees were slower at the largest saving")
    found = row("crossover: packed tokens for one of a tree, from which on trees are faster", min(above), "times")
    return replace(found, note=f"slower at {max(slower):.2f}" if slower else "never slower")


def loaded(setup: Setup) -> tuple[TokenLogProbs, str]:
    gpu = setup.device == "cuda"
    shape = "0.5B" if gpu else "tiny-llama"
    attention.register()
    with tempfile.TemporaryDirectory() as folder:
        dtype = torch.bfloat16 if gpu else torch.float32
        models.save(Path(folder), shape, setup.device, dtype=dtype)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(setup.device)
    return TokenLogProbs(model, attention_for(model, torch.device(setup.device), 4096)[0]), shape


def problems(setup: Setup, shape: str, branches: int, depth: int) -> Dataset:
    """So many problems that their packed rows have about TOKENS tokens."""
    gpu = setup.device == "cuda"
    sizes, words = trees.LARGE if gpu else trees.TINY, models.vocabulary_of(shape)
    one = trees.pairs(branches, depth, sizes, words)
    alone = sum(2 * len(p.prompt_token_ids) + len(p.chosen_token_ids) + len(p.rejected_token_ids) for p in one)
    count = max(1, round((TOKENS if gpu else TOKENS // 8) / alone))
    return trees.dataset([p for i in range(count) for p in trees.pairs(branches, depth, sizes, words, f"p{i}")], 4096)


def timed(setup: Setup, model: TokenLogProbs, rows: Rows) -> float:
    """Seconds of a forward and backward pass, the median after one to warm up."""
    times = []
    for _ in range(ROUNDS + 1):
        begun = clock(setup)
        sequence_log_probs(model, rows, torch.device(setup.device)).sum().backward()
        model.zero_grad(set_to_none=True)
        times.append(clock(setup) - begun)
    return statistics.median(times[1:])
