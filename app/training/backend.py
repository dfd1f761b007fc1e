"""What training asks of the library that holds weights, gradients and optimizer state on the workers.

    backend.backward(loss)            # once a micro-batch
    norm = backend.step(1e-5)         # once a step

deepspeed_backend.py and torch_backend.py have this face; model.py chooses by `placement.training.backend`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch

from app.training.forward import TokenLogProbs

Facts = dict[str, Any]  # plain JSON values


class Backend(Protocol):
    """The model on one worker. All ranks call each method alike, unless it says otherwise."""

    module: TokenLogProbs  # what computes; under sharding only while it is called are its weights whole

    def __call__(self, **tensors: torch.Tensor) -> torch.Tensor:
        """`module`'s forward: log-probabilities of the targets, (targets,)."""

    def train(self) -> None:
        """From now on dropout is on, for models that have it."""

    def eval(self) -> None:
        """From now on dropout is off."""

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of `loss`, (), to what was added since the last step, summed over all workers."""

    def step(self, rate: float) -> float:
        """Clip, take one optimizer step at a learning rate of `rate`, and forget the gradients.

        Returns the norm of the gradients before clipping; where that is not finite, no weight has changed.
        """

    def layout(self) -> Facts:
        """What decides how a checkpoint is cut into files. Facts that differ cannot be read, but for `world`."""

    def alike(self, then: Facts) -> bool:
        """Whether each rank can read the part of its number of a checkpoint that was cut as `then` says."""

    def write(self, folder: Path) -> None:
        """Write weights and optimizer state below `folder`: each rank its part."""

    def join(self, source: Path, target: Path) -> None:
        """On one rank: a checkpoint brought into a form that any number of workers reads. Raises RuntimeError."""

    def read(self, folder: Path, joined: bool) -> None:
        """Read back what `write` wrote, or `join` made of it. Raises whatever stands in the way."""

    def full_state(self) -> dict[str, torch.Tensor] | None:
        """All weights by the wrapped model's own names, on the CPU; None on other ranks than 0."""

    def close(self) -> None:
        """Free its memory."""
