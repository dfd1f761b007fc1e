"""Extra checkpoints when a node is about to be taken away (spot instances, drained nodes)."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.distributed as dist

Deadline = Callable[
    [], float | None
]  # when a worker's node goes, in seconds since 1970; None while no notice was given

SPARE = 2.0  # seconds between the last extra checkpoint and the deadline, beside what a save and two steps take


def agree(ask: Callable[[], bool], device: torch.device) -> bool:
    """What rank 0 finds, on every rank: workers must not differ on whether they stop or save. Only rank 0 asks."""
    said = torch.tensor([int(ask()) if dist.get_rank() == 0 else 0], device=device)
    dist.broadcast(said, src=0)
    return bool(said.item())


class Notice:
    """Two checkpoints a notice: one at the next step, because the time given may be wrong, and one shortly before the
    deadline, so that the steps between are not lost. Ray Train starts the workers again when the deadline has passed.
    """

    def __init__(self, ask: Deadline | None, device: torch.device, now: Callable[[], float] = time.time) -> None:
        self.ask, self.device, self.now = ask, device, now
        self.deadline: float | None = None
        self.last_made = False
        self.save_seconds = 0.0

    def due(self, step_seconds: float) -> bool:
        """Whether to save now. Every rank calls it after every step: asking is a barrier."""
        deadline = self.ask() if self.ask else None
        if deadline is None:
            return False
        if deadline != self.deadline:
            self.deadline, self.last_made = deadline, False
            return True
        if self.last_made:
            return False
        left = deadline - self.now()
        self.last_made = agree(lambda: left < self.save_seconds + 2 * step_seconds + SPARE, self.device)
        return self.last_made
