"""A training stage for a cluster of tests: two workers, a tiny model, steps of a good part of a second.

python -m tests.cluster.training_run MODEL ROOT STEPS CHECKPOINT_STEPS [WORKERS ZERO]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from app.stage import StageContext
from tests.training.conftest import context_of, rows_of


def context(
    model: Path, root: Path | str, steps: int, checkpoint_steps: int, workers: int = 2, zero: int = 0
) -> StageContext:
    settings: dict[str, Any] = {"steps": steps, "checkpoint_steps": checkpoint_steps, "batch": 96, "micro_batch": 1}
    placement = {"workers": workers, "zero_stage": zero}
    return context_of(model, "dpo", root, rows_of("dpo", 96), placement=placement, rpo_alpha=0.5, **settings)


def run(model: Path, root: str, *numbers: int) -> None:
    """On the Ray that RAY_ADDRESS names."""
    from app.cluster import ray_session
    from app.training import launch

    with ray_session():
        launch.run(context(model, root, *numbers))


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
