"""How far a run is, and what it cost: `python -m jobs.status RUN [--recipe RECIPE] [--set key=value]...`.

From the run's files alone; it asks no cluster.

RUN is the run's folder or URI (runs/demo). The recipe tells which stages there are to be: a run keeps a copy as
recipe.json; for one that does not, give the recipe it was started with.
"""

from __future__ import annotations

import argparse
import datetime
import fcntl
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyarrow import fs as pafs

from app.cost import cost, money, total
from app.errors import UserError, one_clear_error
from app.graph import build
from app.hub import pinned
from app.plan import Step, plan
from app.progress import clock
from app.recipe import Recipe, load
from app.remote_folder import file_of
from app.report.table import EMPTY, compact, duration, tokens_of
from app.run_status import FILE as JOURNAL
from app.run_status import REMOTE
from app.stage import Stage
from app.stage_timings import read as read_sessions
from app.stage_timings import totals
from app.store import Output, filesystem
from app.training.metrics import read as read_metrics

WINDOW = 20  # the last shards or steps whose pace is the rate


@dataclass(frozen=True)
class Line:
    """One stage. `total` is None where it is not known yet; `rate` is pieces a second, None before two are done."""

    stage: str
    state: str  # done, running, stopped, failed, pending, or left out: not needed
    done: int
    total: int | None
    unit: str
    rate: float | None
    tokens: float
    seconds: float | None  # wall time of all its sessions, None before the first
    cost: float | None  # so far, None without prices

    @property
    def left(self) -> float | None:
        """Seconds left at the rate of the last pieces."""
        if self.state != "running" or self.total is None or not self.rate:
            return None
        return (self.total - self.done) / self.rate


def status(recipe: Recipe, root: str, running: bool) -> list[Line]:
    """The state of every stage. `running`: whether some process works on the run now."""
    steps, told = plan(build(recipe), root), {} if running else (journal(root) or {}).get("stages", {})
    outputs = {step.stage.name: step.output for step in steps if step.state == "done"}
    failed = {(name, stage["key"]) for name, stage in told.items() if stage["state"] == "failed"}
    lines = [(step, _line(step, recipe, outputs, running)) for step in steps]
    return [
        replace(line, state="failed") if (step.stage.name, step.output.key) in failed and line.state != "done" else line
        for step, line in lines
    ]


def _line(step: Step, recipe: Recipe, outputs: dict[str, Output], running: bool) -> Line:
    name, output = step.stage.name, step.output
    sessions = read_sessions(output)
    held = totals(sessions)
    seconds = held["seconds"] if sessions else None
    spent = cost(recipe.prices, name, held["cpu_seconds"], held["gpu_seconds"]) if sessions else None
    if step.state == "done":
        manifest = output.manifest()
        shards, tokens = manifest["shards"], tokens_of(name, manifest["counts"])
        return Line(name, "done", shards, shards, "shards", None, tokens, manifest["seconds"], spent)
    if step.state == "left out":
        return Line(name, "left out", 0, 0, "shards", None, 0, seconds, spent)
    if name.startswith("training/"):
        rows = read_metrics(file_of(output, "metrics.jsonl"))
        pace = [row["seconds"] for row in rows[-WINDOW:]]
        done, pieces, unit = len(rows), step.stage.options["settings"].steps, "steps"
        rate = len(pace) / sum(pace) if pace and sum(pace) > 0 else None
        tokens = sum(row["tokens"] for row in rows)
    else:
        done, pieces, unit = step.shards, _shards(step.stage, recipe, outputs), "shards"
        rate, tokens = _rate(_times(output)), tokens_of(name, output.counts())
    begun = done > 0 or bool(sessions)
    state = ("running" if running else "stopped") if begun else "pending"
    return Line(name, state, done, pieces, unit, rate, tokens, seconds, spent)


def _shards(stage: Stage, recipe: Recipe, outputs: dict[str, Output]) -> int | None:
    """Shards a stage will have, None while that is not known."""
    recipe = stage.recipe or recipe
    inputs = {role: outputs[name] for role, name in stage.inputs.items() if name in outputs}
    if stage.kind in ("verification", "credit"):
        return len(inputs["sampling"].done_shards()) if "sampling" in inputs else None
    if stage.kind == "sampling" and recipe.sampling:
        return _slices(inputs.get("problems"), "train", recipe.sampling)
    if stage.kind == "evaluation":
        return _slices(inputs.get("problems"), recipe.evaluation.split, recipe.evaluation)
    return None if stage.kind in ("synthesis", "training") else 1


def _slices(problems: Output | None, split: str, settings: Any) -> int | None:
    if problems is None:
        return None
    count = problems.read(["split"])["split"].to_pylist().count(split)
    return math.ceil(count / settings.problems_per_shard)


def _times(output: Output) -> list[float]:
    """When the shards there are were written, ascending."""
    fs, folder = output.open()
    infos = fs.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
    return sorted(i.mtime.timestamp() for i in infos if i.base_name.startswith("part-") and i.mtime is not None)


def _rate(times: list[float]) -> float | None:
    """Pieces a second over the last of them, so that an earlier stop does not count."""
    recent = times[-WINDOW:]
    span = recent[-1] - recent[0] if recent else 0
    return (len(recent) - 1) / span if span > 0 else None


def in_use(root: str) -> bool:
    """Whether a process holds the run's lock; for a run at a URI, whether its journal is fresh."""
    if "://" in root:
        told = journal(root)
        return told is not None and told["state"] == "running" and _age(told) < 3 * REMOTE
    lock = Path(root, ".lock")
    if not lock.exists():
        return False
    with lock.open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def journal(root: str) -> dict[str, Any] | None:
    """progress.json of a run, None where it has none."""
    fs, folder = filesystem(root)
    found = fs.get_file_info(f"{folder}/{JOURNAL}").type == pafs.FileType.File
    return Output(root, "", "").read_json(JOURNAL) if found else None


def _age(told: dict[str, Any]) -> float:
    """Seconds since a journal was written."""
    return (datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(told["updated"])).total_seconds()


def summary(lines: list[Line], root: str, running: bool, currency: str) -> str:
    """The run in one line: whether it runs, how much is done, what it took and cost so far."""
    told, finished = journal(root), sum(line.state == "done" for line in lines)
    if finished == len(lines):
        state = "done"
    elif running:
        state = "running"
    else:
        state = "failed" if told and told["state"] == "failed" else "not running"
    parts = [
        f"{state}: {finished} of {len(lines)} stages done",
        f"{compact(sum(line.tokens for line in lines))} tokens",
    ]
    if (spent := total(line.cost for line in lines)) is not None:
        parts.append(f"{money(spent, currency)} so far")
    if told and state != "done":
        parts.append(f"last written {duration(_age(told))} ago")
    return ", ".join(parts)


def table(lines: list[Line], currency: str = "") -> str:
    """The status as text, with a column of costs where there are prices."""
    header = f"{'stage':<22} {'state':<8} {'done':>15} {'tokens':>9} {'a minute':>9} {'left':>9} {'time':>13}"
    out = [header + (f" {'cost, ' + currency:>10}" if currency else "")]
    for line in lines:
        done = f"{line.done}/{line.total} {line.unit}" if line.total is not None else f"{line.done} {line.unit}"
        rate = f"{60 * line.rate:.3g}" if line.rate else EMPTY
        left = clock(line.left) if line.left is not None else EMPTY
        tokens = compact(line.tokens) if line.tokens else EMPTY
        shown = done if line.state != "pending" else EMPTY
        out.append(
            f"{line.stage:<22} {line.state:<8} {shown:>15} {tokens:>9} {rate:>9} {left:>9} {duration(line.seconds):>13}"
            + (f" {money(line.cost):>10}" if currency else "")
        )
    return "\n".join(out)


def find_recipe(root: str, recipe: str | None, overrides: list[str]) -> Recipe:
    """The recipe that was given, else the run's own copy. Raises UserError where there is neither."""
    if recipe is not None:
        return pinned(load(recipe, overrides), root, save=False)
    fs, folder = filesystem(root)
    if fs.get_file_info(folder).type != pafs.FileType.Directory:
        raise UserError(f"{root}: no such run; give its folder, such as runs/demo")
    if fs.get_file_info(f"{folder}/recipe.json").type != pafs.FileType.File:
        raise UserError(f"{root}: no recipe.json there; give the recipe of this run with --recipe")
    return Recipe.model_validate(Output(root, "", "").read_json("recipe.json"))


@one_clear_error
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.status", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", help="the run's folder or URI, such as runs/demo")
    parser.add_argument("--recipe", help="its recipe, where the run keeps no copy")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as given to jobs.run")
    args = parser.parse_args(argv)
    recipe = find_recipe(args.run, args.recipe, args.set)
    running, currency = in_use(args.run), recipe.prices.currency if recipe.prices else ""
    lines = status(recipe, args.run, running)
    print(table(lines, currency))
    print(summary(lines, args.run, running, currency))
    return 0


if __name__ == "__main__":
    sys.exit(main())
