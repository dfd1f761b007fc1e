"""Running the main job as a user does: a process of its own, in a folder of its own."""

from __future__ import annotations

import os
import posixpath
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import yaml
from pyarrow import fs as pafs

from app.store import filesystem

ROOT = Path(__file__).parents[1]

TINY = {
    "name": "tiny",
    "problems": {"source": {"kind": "world"}, "train": 6, "validation": 2, "test": 12},
    "synthesis": {"count": 40},
    "sampling": {"samples": 6, "max_tokens": 64, "problems_per_shard": 5},
    "credit": {"rollouts": 2, "max_tokens": 64},
    "training": {"precision": "fp32"},
    "runs": {
        "sft": {"method": "sft", "steps": 4, "batch": 8, "micro_batch": 8, "learning_rate": 1e-3},
        "step_dpo": {
            "method": "step_dpo",
            "init": "sft",
            "steps": 2,
            "batch": 4,
            "micro_batch": 4,
            "learning_rate": 1e-4,
        },
    },
    "evaluation": {"samples": 0, "max_tokens": 64, "problems_per_shard": 6},
    "placement": {"sampling": {"kv_cache_gib": 0.25, "max_model_len": 256}, "concurrent_stages": 2},
}


def recipe_file(folder: Path, recipe: dict[str, object]) -> Path:
    path = folder / f"{recipe['name']}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def start(recipe: Path, runs: Path | str, *more: str, log: Path | None = None) -> subprocess.Popen[bytes]:
    """Start the main job in a process group of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    out = log.open("ab") if log else subprocess.DEVNULL
    command = [sys.executable, "-m", "jobs.run", str(recipe), "--runs", str(runs), *more]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out, start_new_session=True)


def run(recipe: Path, runs: Path | str, *more: str, timeout: float = 900) -> str:
    """Run the main job to its end; its output. Fails the test where it fails. The log lies beside a folder of runs, or,
    where they are at an address, beside the recipe.
    """
    log = runs.parent / f"{runs.name}.log" if isinstance(runs, Path) else recipe.with_suffix(".log")
    process = start(recipe, runs, *more, log=log)
    try:
        code = process.wait(timeout)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    text = log.read_text(errors="replace")
    assert code == 0, text[-4000:]
    return text


def ids(run_folder: Path | str) -> dict[str, list[str]]:
    """Every id each stage wrote, sorted: what two runs of one recipe must agree on."""
    found: dict[str, list[str]] = {}
    fs, base = filesystem(str(run_folder))
    infos = fs.get_file_info(pafs.FileSelector(base, recursive=True))
    for file in sorted(info.path for info in infos if info.path.endswith(".parquet")):
        kind = posixpath.basename(file).rpartition("-")[0]
        table = pq.read_table(file, filesystem=fs, partitioning=None)
        names = [n for n in ("id", "trace_id", "step") if n in table.column_names]
        if names:
            stage = posixpath.dirname(file).removeprefix(f"{base}/")
            rows = table.select(names).to_pylist()
            found.setdefault(f"{stage}/{kind}", []).extend("/".join(str(row[n]) for n in names) for row in rows)
    return {name: sorted(values) for name, values in found.items()}
