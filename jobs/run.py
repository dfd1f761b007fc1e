"""Run a recipe: `python -m jobs.run RECIPE [--set key=value]... [--plan] [--until STAGE] [--runs DIR]`.

Alone it starts a Ray of its own; under `ray job submit`, or with RAY_ADDRESS set, it uses that cluster. Finished stages
are reused, stopped ones go on where they were.
"""

from __future__ import annotations

import argparse
import os
import posixpath
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from app.entry import begin, native_noise

if __name__ == "__main__":
    begin()

from app import named
from app.errors import UserError, nearest, one_clear_error
from app.graph import build
from app.hub import pinned
from app.memory import lines
from app.plan import plan, table
from app.recipe import Recipe, load
from app.store import Output
from jobs.readiness import findings, refuse, told

RECIPES = Path(__file__).parent / "recipes"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m jobs.run", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipe", help="a recipe's file, or the name of one in jobs/recipes (demo)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override one key of the recipe"
    )
    parser.add_argument("--plan", action="store_true", help="print what would run and stop")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--only", metavar="STAGE", help="run one stage, or all of a kind; its inputs must be there")
    part.add_argument("--until", metavar="STAGE", help="run one stage, or all of a kind, and all that it needs")
    parser.add_argument("--runs", default="runs", metavar="DIR", help="folder or URI of all runs (default: runs)")
    return parser.parse_args(argv)


def find_recipe(name: str) -> str:
    """A file's path as given, or a shipped recipe by its name. Raises UserError where a bare name is neither."""
    shipped = RECIPES / f"{name}.yaml"
    if Path(name).is_file() or Path(name).suffix or len(Path(name).parts) != 1:
        return name
    if not shipped.is_file():
        there = nearest(name, (path.stem for path in RECIPES.glob("*.yaml")))
        raise UserError(f"{name}: no recipe of that name{there}; or give a recipe's file")
    return str(shipped)


@one_clear_error
def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    recipe = load(find_recipe(args.recipe), args.set)
    root = posixpath.join(args.runs, recipe.name)
    recipe = pinned(recipe, root, save=not args.plan)
    steps = plan(build(recipe), root)
    found = findings(recipe, root, steps)
    if args.plan:
        print("\n".join([table(recipe, steps), *lines(recipe, [step.stage for step in steps])]))
        print(told(found))
        return 0
    refuse(found)
    execute(recipe, root, args.only, args.until)
    return 0


def execute(recipe: Recipe, root: str, only: str | None, until: str | None = None) -> None:
    """Run the stages on Ray and print what came out, and where it is."""
    from app.cluster import ray_session

    with quiet(root), ray_session():
        from app.pipeline import run  # imports ray, whose doors are closed by now

        steps = run(recipe, root, only, until)
    from app.report.costs import cost_lines
    from app.report.stage import publish
    from app.report.table import accuracy_table

    places = named.told(root, named.name_all(recipe, root, steps))
    report = next(step for step in steps if step.stage.name == "report")
    if report.state == "done":
        publish(report.output)
        results = Output(root, "", "").read_json("results.json")
        print(accuracy_table(results))
        if costs := cost_lines(results):
            print(costs)
        places.append(f"report: {posixpath.join(root, 'report', 'index.html')}")
    print("\n".join(places))


def quiet(root: str) -> AbstractContextManager[None]:
    """Keep what Ray's own processes write on the console in the run's ray.log, where the Ray is this job's own."""
    if os.environ.get("RAY_ADDRESS") or "://" in root:
        return nullcontext()
    return native_noise(Path(root, "ray.log"))


if __name__ == "__main__":
    sys.exit(main())
