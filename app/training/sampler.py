"""Which examples a step trains on: a function of (seed, epoch, consumed) and of nothing else.

The examples of all epochs form one endless sequence, each epoch a fresh permutation. A step takes the next `batch` of
it, so a run that was stopped, or that goes on with another number of workers, sees exactly what an uninterrupted one
would.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.records import seed_from
from app.training.settings import TrainSettings


@dataclass(frozen=True)
class Sampler:
    """`total` examples are consumed in `steps` steps of `batch`; only the last may be smaller."""

    count: int  # examples in the data set
    batch: int
    total: int
    seed: int
    groups: np.ndarray | None = None  # (count,) examples with the same number follow each other

    @property
    def steps(self) -> int:
        return -(-self.total // self.batch)

    def step(self, index: int) -> np.ndarray:
        """Indices of the examples of step `index`, (batch,) int64."""
        return self.slice(index * self.batch, min((index + 1) * self.batch, self.total))

    def slice(self, start: int, stop: int) -> np.ndarray:
        """Positions [start, stop) of the endless sequence."""
        parts = []
        while start < stop:
            epoch, offset = divmod(start, self.count)
            taken = self.epoch(epoch)[offset : offset + stop - start]
            parts.append(taken)
            start += len(taken)
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def epoch(self, epoch: int) -> np.ndarray:
        """The permutation of one epoch: of examples, or of groups with the examples shuffled inside each."""
        mixed = np.random.default_rng(seed_from("order", self.seed, epoch)).permutation(self.count)
        if self.groups is None:
            return mixed
        _, first, group = np.unique(self.groups[mixed], return_index=True, return_inverse=True)
        return mixed[np.argsort(first[group], kind="stable")]


def sampler_for(settings: TrainSettings, problems: np.ndarray, seed: int) -> Sampler:
    """The order of a run over examples of these problems: its steps, or its epochs (a part of an epoch is allowed)."""
    count = len(problems)
    if settings.steps is not None:
        total = settings.steps * settings.batch
    else:
        total = max(1, round((settings.epochs or 0) * count))
    return Sampler(count, settings.batch, total, seed, problems if settings.group == "problem" else None)


def micro_batches(
    examples: np.ndarray,
    lengths: np.ndarray,
    size: int,
    world: int,
    groups: np.ndarray | None = None,
    tokens: int | None = None,
) -> list[list[np.ndarray]]:
    """Split a step over workers: a list of rounds, each with one micro-batch of at most `size` examples a worker, or,
    where `tokens` is given, of about so many tokens at most and any number of examples.

    Workers that share each micro-batch (app.training.sequence) count as one in `world`.

    Examples are sorted by length first, so that micro-batches, and the workers of a round, have little padding; with
    `groups` the examples of a group stay next to each other. Every worker gets the same number of rounds (collectives
    must match); where examples run out a micro-batch is empty.
    """
    keys = lengths[examples]
    if groups is not None:
        _, group = np.unique(groups[examples], return_inverse=True)
        keys = np.bincount(group, weights=keys)[group]
        examples, keys = examples[np.argsort(group, kind="stable")], keys[np.argsort(group, kind="stable")]
    ordered = examples[np.argsort(-keys, kind="stable")]
    if tokens is not None:
        return _by_tokens(ordered, lengths[ordered], tokens, world)
    rounds = -(-len(ordered) // (size * world))
    parts = np.array_split(ordered, rounds * world)
    return [parts[i * world : (i + 1) * world] for i in range(rounds)]


def _by_tokens(ordered: np.ndarray, lengths: np.ndarray, tokens: int, world: int) -> list[list[np.ndarray]]:
    """As few rounds as `tokens` allow, cut so that the largest micro-batch is as small as it can be.

    One example may be longer than that: it is a micro-batch of its own.
    """
    rounds = -(-len(_ends(lengths, max(tokens, int(lengths.max())))) // world)
    low, high = int(lengths.max()), int(lengths.sum())
    while low < high:  # the least limit with which the rounds suffice
        middle = (low + high) // 2
        low, high = (low, middle) if len(_ends(lengths, middle)) <= rounds * world else (middle + 1, high)
    ends = _ends(lengths, low)
    parts = np.split(ordered, ends[:-1]) + [ordered[:0]] * (rounds * world - len(ends))
    return [parts[i * world : (i + 1) * world] for i in range(rounds)]


def _ends(lengths: np.ndarray, limit: int) -> list[int]:
    """Where each part ends when every part takes what it can up to `limit` tokens; no length is above it."""
    ends, held = [], 0
    for place, length in enumerate(lengths.tolist()):
        if held + length > limit:
            ends.append(place)
            held = 0
        held += length
    return [*ends, len(lengths)]
