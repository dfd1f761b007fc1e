"""Training against TRL on the same pairs and model: examples a second, peak memory, tokens saved by trees.

    python -m benchmarks.training [--quick] [--json FILE]

Each measurement is a process of its own on one thread, ours and TRL's in turn. The time of a step is CPU time (so
that a busy machine changes little), from the end of one step to the end of the next, batch making included; the rate
is that of the median step. Both sides: AdamW, clipping, the same batch and micro-batch, no gradient checkpointing;
DPO with precomputed reference (not in the time), SFT with packing in TRL. TRL gets token ids, so that both train on
the same ones.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.records import Example, PreferencePair
from app.store import Output
from benchmarks import training_data, trl_peer
from benchmarks.table import Row, arguments, publish, row


@dataclass(frozen=True)
class Case:
    """One comparison. `model` is world or long; `alternatives` pairs share a problem."""

    name: str
    method: str
    model: str
    precision: str = "fp32"
    alternatives: int = 1
    group: str = "none"
    batch: int = 64
    micro_batch: int = 16
    steps: int = 5
    rounds: int = 3


QUICK = (
    Case("step DPO, GSM8K length", "step_dpo", "long", batch=16, micro_batch=8, steps=3, rounds=1),
    Case("step DPO, world", "step_dpo", "world", steps=4, rounds=1),
    Case("step DPO, world, 4 pairs a problem", "step_dpo", "world", "fp32", 4, "problem", steps=4, rounds=1),
    Case("DPO, world", "dpo", "world", steps=4, rounds=1),
    Case("SFT, world", "sft", "world", steps=4, rounds=1),
)
FULL = (
    Case("step DPO, GSM8K length", "step_dpo", "long", batch=16, micro_batch=8, steps=3),
    Case("step DPO, world", "step_dpo", "world"),
    Case("step DPO, world, 4 pairs a problem", "step_dpo", "world", "fp32", 4, "problem"),
    Case("DPO, world", "dpo", "world"),
    Case("SFT, world", "sft", "world"),
    Case("step DPO, 4 pits a problem", "step_dpo", "long", "fp32", 4, "problem", 16, 8, steps=3, rounds=1),
    Case("step DPO, GSM8K length, bf16", "step_dpo", "long", "bf16", batch=16, micro_batch=8, steps=3, rounds=1),
    Case("step DPO, world, bf16", "step_dpo", "world", "bf16", rounds=1),
)


def rows_of(case: Case) -> list[Any]:
    """The training set: enough for the timed steps and one to warm up."""
    count = case.batch * (case.steps + 1)
    if case.model == "long":
        return list(training_data.long_pairs(count, case.alternatives))
    return list(training_data.world_rows(case.method, count, case.alternatives))


def model_path(case: Case, folder: Path) -> str:
    if case.model == "world":
        from app.policy import WORLD_MODEL

        return str(WORLD_MODEL)
    training_data.long_model(folder / "model")
    return str(folder / "model")


def measured(step_seconds: list[float], batch: int, computed: float) -> dict[str, float]:
    """What a child reports; the first step is left out."""
    return {
        "rate": batch / statistics.median(step_seconds[1:]),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "computed": computed,
    }


def ours(case: Case, folder: Path) -> dict[str, float]:
    """The loop of app.training in this process, DeepSpeed included."""
    import torch
    import torch.distributed as dist

    from app.training.dataset import load
    from app.training.job import Job
    from app.training.loop import Trainer
    from app.training.settings import PreferenceSettings, TrainPlacement, TrainSettings

    os.environ.update(LOCAL_RANK="0", RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    kind = Example if case.method == "sft" else PreferencePair
    data, out = Output(str(folder), "data", "k"), Output(str(folder), f"training/{case.method}", "k")
    data.write_shard(0, kind.table(rows_of(case)))
    out.local().mkdir(parents=True)
    settings = (TrainSettings if case.method == "sft" else PreferenceSettings).model_validate(
        {
            "steps": case.steps + 1,
            "batch": case.batch,
            "micro_batch": case.micro_batch,
            "max_length": 1024,
            "precision": case.precision,
            "group": case.group,
        }
    )
    path = model_path(case, folder)
    job = Job(case.method, data, out, path, "bench", None, False, settings, TrainPlacement(), seed=0)
    trainer = Trainer(job, load(data, 1024), torch.device("cpu"))
    trainer.engine.train()
    seconds, computed = [], []
    for step in range(case.steps + 1):
        began = time.process_time()
        computed.append(trainer.step(step)["computed_tokens"])
        seconds.append(time.process_time() - began)
    return measured(seconds, case.batch, statistics.mean(computed))


def trl(case: Case, folder: Path) -> dict[str, float]:
    """TRL's trainer on the same ids."""
    got = trl_peer.train(
        model_path(case, folder),
        rows_of(case),
        folder,
        time.process_time,
        batch=case.batch,
        micro_batch=case.micro_batch,
        steps=case.steps + 1,
        precision=case.precision,
    )
    out = measured([0.0, *got.seconds], case.batch, got.computed)
    return out | {"rate": out["rate"] * got.examples}


def child(side: str, case: Case) -> None:
    """One measurement; the result is the last line of standard output."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        result = (ours if side == "ours" else trl)(case, Path(folder))
    print(json.dumps(result), flush=True)


def measure(side: str, case: Case) -> dict[str, float]:
    """Run a child and read its result."""
    command = [sys.executable, "-m", "benchmarks.training", "--child", side, json.dumps(asdict(case))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{case.name}, {side}:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(case: Case) -> list[Row]:
    """Rounds of both sides in turn; medians."""
    results: dict[str, list[dict[str, float]]] = {"ours": [], "trl": []}
    for _ in range(case.rounds):
        for side, got in results.items():
            got.append(measure(side, case))

    def middle(side: str, key: str) -> float:
        return statistics.median(r[key] for r in results[side])

    unit = "examples/CPU s" if case.method == "sft" else "pairs/CPU s"
    return [
        row(case.name, middle("ours", "rate"), unit, "trl", middle("trl", "rate")),
        row(
            f"{case.name}: tokens computed a step",
            middle("ours", "computed"),
            "tokens",
            "trl",
            middle("trl", "computed"),
            lower_is_better=True,
        ),
        row(
            f"{case.name}: peak memory",
            middle("ours", "memory"),
            "MiB",
            "trl",
            middle("trl", "memory"),
            lower_is_better=True,
        ),
    ]


def savings() -> list[Row]:
    """Tokens a tree saves against one sequence a branch, by steps of a solution and pairs a problem, whose pits are
    anywhere in one solution or all at one step. Counted, not timed.
    """
    return [
        saving(steps, alternatives, one_pit)
        for one_pit in (False, True)
        for steps in (3, 5, 8)
        for alternatives in ((2, 4, 8) if one_pit else (1, 2, 4, 8))
    ]


def saving(steps: int, alternatives: int, one_pit: bool) -> Row:
    from app.training.dataset import load

    with tempfile.TemporaryDirectory() as folder:
        data = Output(folder, "data", "k")
        pairs = training_data.long_pairs(256, alternatives, steps, one_pit)
        data.write_shard(0, PreferencePair.table(pairs))
        dataset = load(data, 4096)
    alone = int((2 * dataset.prompts.lengths).sum() + sum(int(b.lengths.sum()) for b in dataset.branches))
    trees = dataset.rows(range(len(dataset))).computed
    where = "at one step" if one_pit else "a problem"
    name = f"tokens, {steps} steps, {alternatives} pairs {where}"
    return row(name, trees, "tokens", "plain", alone, lower_is_better=True)


def main() -> None:
    if "--child" in sys.argv:
        child(sys.argv[2], Case(**json.loads(sys.argv[3])))
        return
    options = arguments(__doc__.splitlines()[0]).parse_args()
    rows: list[Row] = []
    for case in QUICK if options.quick else FULL:
        rows += compare(case)
    publish(rows + savings(), options.json)


if __name__ == "__main__":
    main()
