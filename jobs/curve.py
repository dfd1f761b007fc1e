"""How much data each method needs: run a recipe at several sizes and read the curves against each other.

    python -m jobs.curve RECIPE --sizes 250,500,1000 [--baseline-sizes 2000,4000,8000] [--seeds 0,1] [--runs DIR]

The size is `synthesis.count`, or `problems.train` where a recipe writes no problems. At --sizes every method runs, at
--baseline-sizes SFT alone, for its curve must reach as far as the others' savings. All runs share the folder of the
recipe's own run, so what exists there is reused and a stopped curve goes on where it was.
"""

from __future__ import annotations

import argparse
import posixpath
import sys
from dataclasses import dataclass, replace
from typing import Any

from app.entry import begin

if __name__ == "__main__":
    begin()

from app.errors import UserError, one_clear_error
from app.evaluation.curve import Asked, Errors, curve, error_of
from app.graph import build, check
from app.hub import pinned
from app.plan import keys_of, plan
from app.recipe import Recipe, load
from app.report.colours import colours
from app.report.results import answers_of, baseline_of, titles
from app.store import Output
from jobs.run import find_recipe


@dataclass(frozen=True)
class Cell:
    """One run of the curve."""

    size: int
    seed: int
    recipe: Recipe
    methods: tuple[str, ...]


def numbers(text: str) -> list[int]:
    """`250,500` as numbers."""
    try:
        found = sorted({int(part) for part in text.split(",") if part})
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected whole numbers with commas between") from None
    if not found or found[0] < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected at least one number, none below 0")
    return found


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m jobs.curve", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipe", help="a recipe's file, or the name of one in jobs/recipes (demo)")
    parser.add_argument("--sizes", type=numbers, required=True, metavar="N,N", help="training problems, all methods")
    parser.add_argument(
        "--baseline-sizes", type=numbers, default=[], metavar="N,N", help="more sizes for SFT alone, usually larger"
    )
    parser.add_argument(
        "--seeds", type=numbers, default=None, metavar="S,S", help="seeds of the recipe (default: its own)"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the recipe")
    parser.add_argument("--runs", default="runs", metavar="DIR", help="folder or URI of all runs (default: runs)")
    return parser.parse_args(argv)


def cells(own: Recipe, args: argparse.Namespace) -> list[Cell]:
    """All runs of a curve, smallest first. Raises UserError where the recipe trains no SFT or its parts do not fit."""
    baseline = baseline_of(own, list(own.trained()))
    if baseline is None:
        raise UserError(f"{args.recipe}: a curve is read against SFT: add a run of method sft")
    field = "synthesis.count" if own.synthesis else "problems.train"
    found = []
    for seed in [own.seed] if args.seeds is None else args.seeds:
        for size in sorted({*args.sizes, *args.baseline_sizes}):
            recipe = load(find_recipe(args.recipe), [*args.set, f"{field}={size}", f"seed={seed}"])
            if size not in args.sizes:
                recipe = baseline_only(recipe, baseline)
            check(recipe)  # now, not after the smaller sizes ran
            trained = tuple(name for name, run in recipe.trained().items() if run.training)
            found.append(Cell(size, seed, recipe, trained))
    return found


def baseline_only(recipe: Recipe, baseline: str) -> Recipe:
    """The same recipe with the baseline's run alone; its stages keep their keys."""
    runs = {baseline: recipe.runs[baseline]}
    return recipe.model_copy(update={"runs": runs, "policies": {}, "sampling": None, "credit": None})


def greedy(cell: Cell, method: str, root: str) -> Errors:
    """Greedy errors of one trained method."""
    steps = {step.stage.name: step.output for step in plan(build(cell.recipe), root)}
    answers = answers_of(steps[f"evaluation/{method}"])
    return {(cell.seed, problem): error_of(outcome) for problem, outcome in answers.greedy.items()}


def gather(done: list[Cell], root: str) -> dict[str, dict[int, dict[Asked, float | None]]]:
    """Greedy errors by method and size, of all seeds together."""
    found: dict[str, dict[int, dict[Asked, float | None]]] = {}
    for cell in done:
        for method in cell.methods:
            found.setdefault(method, {}).setdefault(cell.size, {}).update(greedy(cell, method, root))
    return found


def show_own(own: Recipe, root: str) -> None:
    """Leave the run's folder showing the recipe itself, not the curve's last run, where its report is there."""
    from app.report.stage import publish

    Output(root, "", "").write_json("recipe.json", own.model_dump(mode="json"))
    report = Output(root, "report", keys_of(build(own))["report"])
    if report.finished:
        publish(report)


def write(name: str, root: str, found: dict[str, Any]) -> str:
    """Write curve.json and report/curve.html; the page's address."""
    from app.report.curve import GREEDY, page

    Output(root, "", "").write_json("curve.json", found)
    folder = Output(root, "report", "")
    with folder.atomic("curve.html") as sink:
        sink.write(page(name, {GREEDY: found}).encode())
    return posixpath.join(root, "report", "curve.html")


@one_clear_error
def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    own = load(find_recipe(args.recipe), args.set)
    root = posixpath.join(args.runs, own.name)
    todo = [replace(cell, recipe=pinned(cell.recipe, root)) for cell in cells(own, args)]
    own = pinned(own, root)
    run_all(todo, root)
    measured = gather(todo, root)
    found = curve(measured, str(baseline_of(own, list(measured))))
    found |= {"titles": titles(own, list(measured)), "colours": colours(own, list(measured))}
    show_own(own, root)
    from app.report.curve import table

    address = write(own.name, root, found)
    print(table(found))
    print(f"curve: {address}")
    return 0


def run_all(todo: list[Cell], root: str) -> None:
    """Run what is not there yet, one recipe after the other."""
    from app.cluster import ray_session

    with ray_session():
        from app.pipeline import run  # imports ray, whose doors are closed by now

        for number, cell in enumerate(todo, 1):
            print(f"run {number} of {len(todo)}: {cell.size:,} problems, seed {cell.seed}", flush=True)
            run(cell.recipe, root)


if __name__ == "__main__":
    sys.exit(main())
