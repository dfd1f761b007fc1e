"""The whole demo as a user runs it, with the GPU where there is one; on a CPU a few problems and steps of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts.case import Case, Setup
from benchmarks.table import Row, row

ON_A_GPU = {  # one stage at a time: each takes the whole card
    "placement.concurrent_stages": 1,
    "placement.sampling.gpus": 1,
    "placement.training.gpus": 1,
}
TINY = {
    "problems.train": 6,
    "problems.validation": 2,
    "problems.test": 12,
    "synthesis.count": 40,
    "sampling.problems_per_shard": 20,
    "credit.rollouts": 2,
    "training.batch": 8,
    "training.micro_batch": 8,
    "evaluation.samples": 0,
    **{f"runs.{name}.steps": 2 for name in ("sft", "rft", "dpo", "step_dpo", "rounds")},
    "runs.rounds.evaluate_every": 1,
    "runs.rounds.evaluate_problems": 2,
}


def cases(setup: Setup) -> list[Case]:
    return [Case("the demo", partial(demo, setup), 900)]


def demo(setup: Setup) -> list[Row]:
    """Seconds of the whole and of its longest stages; accuracies of base and SFT, which must have learned."""
    small = setup.device == "cpu" or setup.quick
    changes: dict[str, Any] = (ON_A_GPU if setup.device == "cuda" else {}) | (TINY if small else {})
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), changes)
        stages = json.loads(Path(folder, "demo", "progress.json").read_text())["stages"]
        results = json.loads(Path(folder, "demo", "results.json").read_text())
    seconds = {name: stage["seconds"] for name, stage in stages.items() if stage.get("seconds")}
    name = "the demo, tiny" if small else "the demo"
    rows = [row(f"{name}: {stage}", seconds[stage], "s") for stage in sorted(seconds, key=seconds.__getitem__)[-4:]]
    found = {method: results["methods"][method]["accuracy"]["value"] for method in ("base", "sft", "step_dpo")}
    rows += [row(f"{name}: accuracy of {method}", 100 * value, "%") for method, value in found.items()]
    if not small and found["sft"] <= found["base"]:
        raise RuntimeError(f"SFT has not learned: {found['sft']:.1%} right, before it {found['base']:.1%}")
    return rows


def run(folder: Path, changes: dict[str, Any]) -> None:
    """The job, to its end. Raises RuntimeError with its last lines."""
    command = [sys.executable, "-m", "jobs.run", "demo", "--runs", str(folder)]
    for key, value in changes.items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        said = [line for line in (done.stderr + done.stdout).splitlines() if "rror" in line]
        raise RuntimeError(said[-1] if said else f"it ended with {done.returncode}")
