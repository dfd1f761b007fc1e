"""A run with rounds, killed whenever a stage has ended and once in the middle of a round's training."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runs import TINY, ids, recipe_file, run, start

ROUNDS = {
    "method": "step_dpo",
    "init": "sft",
    "steps": 3,
    "batch": 4,
    "micro_batch": 4,
    "learning_rate": 1e-4,
    "checkpoint_steps": 1,
    "rounds": {"count": 2, "gate": False},
}
RECIPE = TINY | {"runs": {"sft": TINY["runs"]["sft"], "more": ROUNDS}}  # type: ignore[index]


def finished(folder: Path) -> int:
    """Stages that have ended."""
    return len(list(folder.glob("tiny/**/manifest.json")))


def trains(folder: Path) -> bool:
    """Whether the first round has left a checkpoint."""
    return any(folder.glob("tiny/training/more-1/*/checkpoints/*"))


def moment(folder: Path, in_training: bool) -> Callable[[], bool]:
    """Whether a stage has ended since now; or, where that was not seen yet, the first round is in training."""
    before = finished(folder)
    return lambda: finished(folder) > before or (not in_training and trains(folder))


def killed_when(recipe: Path, runs: Path, come: Callable[[], bool]) -> bool:
    """Start the job and kill all of it at a moment; False where it came to its end before."""
    process = start(recipe, runs, log=runs.parent / "killed.log")
    try:
        while process.poll() is None and not come():
            time.sleep(0.05)
        if process.poll() is not None:
            assert process.returncode == 0, (runs.parent / "killed.log").read_text(errors="replace")[-4000:]
            return False
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return True


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_killed_at_every_boundary_it_ends_with_the_same_ids(tmp_path: Path) -> None:
    recipe, runs = recipe_file(tmp_path, RECIPE), tmp_path / "runs"
    lives, in_training = 1, False
    while killed_when(recipe, runs, moment(runs, in_training)):
        lives += 1
        in_training = in_training or trains(runs)
    assert in_training
    run(recipe, tmp_path / "alone")
    stages = finished(tmp_path / "alone")
    assert finished(runs) == stages and lives > stages / 2  # two stages may end at one moment
    assert ids(runs / "tiny") == ids(tmp_path / "alone" / "tiny") != {}
