"""Faster settings for a recipe here: `python -m jobs.tune RECIPE [--minutes 10] [--out tuned.yaml] [--runs DIR]`.

Tries a few settings of the sampling engine on one shard, and of micro-batch and checkpointing on a few steps of a run
whose data set is there, one change at a time from the best so far. Writes the best as a placement, which a recipe names
(`placement: tuned.yaml`). Nothing else is kept. Needs what the sampling stage reads, as jobs.estimate does.
"""

from __future__ import annotations

import argparse
import posixpath
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from app.cost import cost, held, money
from app.errors import UserError, one_clear_error
from app.graph import build
from app.hub import pinned
from app.pipeline import select
from app.plan import Step, plan
from app.problems.select import Problems
from app.progress import Progress, clock
from app.recipe import Placement, Recipe, load
from app.sampling.estimate import Estimate, Pilot, estimate
from app.sampling.settings import EnginePlacement
from app.stage import StageContext
from app.store import Output
from app.training.probe import Probe, probe
from app.training.settings import TrainSettings
from jobs.estimate import sample, sampled
from jobs.run import find_recipe

T = TypeVar("T")
BETTER = 1.03  # a rate must be so many times the best so far: less is what two runs of the same differ by


@dataclass(frozen=True)
class Tried:
    """One setting and what came of it."""

    change: str
    rate: float  # tokens or examples a second; 0 where it failed
    note: str = ""


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m jobs.tune", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipe", help="a recipe's file, or the name of one in jobs/recipes (demo)")
    parser.add_argument("--minutes", type=float, default=10, help="after which nothing more is begun (10)")
    parser.add_argument("--out", type=Path, default=Path("tuned.yaml"), help="the placement (tuned.yaml)")
    parser.add_argument("--policy", metavar="NAME", help="whose samples (default: the first that the recipe samples)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key")
    parser.add_argument("--runs", default="runs", metavar="DIR", help="folder or URI of all runs (default: runs)")
    return parser.parse_args(argv)


@one_clear_error
def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    if args.minutes <= 0:
        raise UserError("--minutes: give a number above 0")
    recipe = load(find_recipe(args.recipe), args.set)
    if recipe.sampling is None:
        raise UserError(f"recipe {recipe.name}: it has no sampling part, so there is nothing to tune")
    root = posixpath.join(args.runs, recipe.name)
    recipe = pinned(recipe, root, save=False)
    steps, end = plan(build(recipe), root), time.monotonic() + 60 * args.minutes
    step = sampled(steps, args.policy)
    select(steps, step.stage.name)  # an error where an input has not run
    half = time.monotonic() + 30 * args.minutes
    place, whole = tune_engine(recipe, steps, step, half)
    how = tune_training(recipe, steps, end)
    placement = recipe.placement.model_copy(update={"sampling": place})
    args.out.write_text(yaml.safe_dump(placement.model_dump(mode="json", exclude_unset=True), sort_keys=False))
    print(summary(recipe, placement, whole, how, args.out))
    return 0


def best_of(own: T, changes: Callable[[T], Iterable[tuple[str, T]]], rate: Callable[[T], Tried], end: float) -> T:
    """Climb: from `own`, each change that makes the best so far faster is kept, until nothing does or time is over."""
    best, tried = own, rate(own)
    print(f"    {'as the recipe has it':<44}{tried.rate:>12,.1f} a second {tried.note}", flush=True)
    most, seen = tried.rate, [own]
    while True:
        new = next(((name, one) for name, one in changes(best) if one not in seen), None)
        if new is None or time.monotonic() > end:
            return best
        seen.append(new[1])
        tried = rate(new[1])
        print(f"    {new[0]:<44}{tried.rate:>12,.1f} a second {tried.note}", flush=True)
        if tried.rate > most * BETTER:
            best, most = new[1], tried.rate


def engine_changes(place: EnginePlacement) -> Iterable[tuple[str, EnginePlacement]]:
    """One step away from a placement; what does not fit together is left out."""
    asked: list[dict[str, Any]] = [{"max_num_seqs": 2 * place.max_num_seqs}, {"max_num_seqs": place.max_num_seqs // 2}]
    if place.gpus:
        asked += [{"max_num_batched_tokens": tokens} for tokens in (16384, 4096)]
        asked += [{"kv_cache_dtype": "fp8"}] if place.kv_cache_dtype == "auto" else []
    else:
        asked += [{"threads": 2 * place.threads}] if 2 * place.threads <= place.cpus else []
    for change in asked:
        try:
            yield ", ".join(f"{k}: {v}" for k, v in change.items()), _changed(place, change)
        except ValidationError:
            continue


def _changed(place: EnginePlacement, change: dict[str, Any]) -> EnginePlacement:
    return EnginePlacement.model_validate(place.model_dump(exclude_unset=True) | change)


def tune_engine(
    recipe: Recipe, steps: list[Step], step: Step, end: float
) -> tuple[EnginePlacement, tuple[Estimate, float]]:
    """The best placement; what the stage takes with it, and how many times faster it is than the recipe's own."""
    recipe = step.stage.recipe or recipe
    assert recipe.sampling
    problems = Problems(next(s.output for s in steps if s.stage.name == step.stage.inputs["problems"]), "train")
    count = min(recipe.sampling.problems_per_shard, len(problems))
    pilots: list[tuple[EnginePlacement, Pilot, float]] = []
    print(f"{step.stage.name}: one shard of {count} problems, tokens", flush=True)

    def rate(place: EnginePlacement) -> Tried:
        there = recipe.model_copy(update={"placement": recipe.placement.model_copy(update={"sampling": place})})
        try:
            pilot = sample(there, steps, step, problems, count)
        except (UserError, RuntimeError) as error:
            if not pilots:
                raise  # the recipe's own does not run: nothing to compare with
            return Tried("", 0.0, str(error).splitlines()[0][:100])
        speed = sum(pilot.tokens) / pilot.engine_seconds if pilot.engine_seconds else 0.0
        pilots.append((place, pilot, speed))
        return Tried("", speed)

    best = best_of(recipe.placement.sampling, engine_changes, rate, end)
    pilot, speed = next((pilot, speed) for place, pilot, speed in pilots if place == best)
    first = pilots[0][2]
    return best, (estimate(pilot, len(problems)), speed / first if first else 1.0)


def training_changes(settings: TrainSettings) -> Iterable[tuple[str, TrainSettings]]:
    size, tokens = settings.micro_batch, settings.micro_batch_tokens
    asked: list[dict[str, Any]] = [{"gradient_checkpointing": not settings.gradient_checkpointing}]
    if tokens is not None:
        asked = [{"micro_batch_tokens": 2 * tokens}, {"micro_batch_tokens": tokens // 2}, *asked]
    else:
        smaller = [{"micro_batch": size // 2}] if size > 1 else []
        asked = [*([{"micro_batch": 2 * size}] if 2 * size <= settings.batch else []), *smaller, *asked]
    for change in asked:
        yield ", ".join(f"{k}: {v}" for k, v in change.items()), settings.model_copy(update=change)


def tune_training(recipe: Recipe, steps: list[Step], end: float) -> dict[str, Any]:
    """What to set for the runs, by its key; nothing where the recipe's own is the best, or no data set is there."""
    from app.training.launch import make_job

    done = {step.stage.name: step.output for step in steps if step.state == "done"}
    ready = [
        step for step in steps if step.stage.kind == "training" and all(n in done for n in step.stage.inputs.values())
    ]
    if not ready:
        print("training: no run's data set and start are there yet; run the recipe up to them and tune again")
        return {}
    stage = ready[0].stage
    inputs = {role: done[name] for role, name in stage.inputs.items()}
    own: TrainSettings = stage.options["settings"]
    print(f"{stage.name}: a few steps on one worker, examples", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        output = Output(folder, stage.name, "tune")
        output.local().mkdir(parents=True)
        job = make_job(StageContext(stage, recipe, inputs, output, Progress("tune")))
        alone = job.placement.model_copy(update={"workers": 1, "sequence_parallel": 1, "zero_hpz_partition_size": 1})

        def rate(settings: TrainSettings) -> Tried:
            found: Probe = probe(replace(job, settings=settings, placement=alone), max(30.0, end - time.monotonic()))
            note = found.failed or (f"{found.memory:.1f} GiB" if found.memory else "")
            return Tried("", settings.batch / found.seconds if found.seconds else 0.0, note)

        best = best_of(own, training_changes, rate, end)
    names = ("micro_batch", "micro_batch_tokens", "gradient_checkpointing")
    return {f"training.{name}": getattr(best, name) for name in names if getattr(best, name) != getattr(own, name)}


def summary(recipe: Recipe, placement: Placement, whole: tuple[Estimate, float], how: dict[str, Any], out: Path) -> str:
    """What was found, and what sampling takes with it."""
    found, faster = whole
    seconds = found.seconds / placement.sampling.actors
    lines = [
        f"sampling: {faster:.2f} times as fast as the recipe's own"
        if faster > 1
        else "sampling: the recipe's own is the best of these"
    ]
    lines.append(
        f"    the whole stage: {found.tokens:,.0f} tokens, {clock(seconds)} on {placement.sampling.actors} engines"
    )
    holds = held(recipe.model_copy(update={"placement": placement}), "sampling")
    amount = cost(recipe.prices, "sampling", seconds * holds.cpus, seconds * holds.gpus)
    if recipe.prices and amount is not None:
        lines[-1] += f", {money(amount, recipe.prices.currency)}"
    lines += [f"training: --set {key}={str(value).lower()}" for key, value in how.items()]
    lines.append(f"written: {out}; in the recipe, or by --set: placement={out}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
