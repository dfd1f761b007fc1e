"""Run a recipe: `python -m jobs.run RECIPE [--set key=value]... [--plan] [--only STAGE] [--runs DIR]`.

Alone it starts a Ray of its own; under `ray job submit`, or with RAY_ADDRESS set, it uses that cluster. Finished stages
are reused, stopped ones go on where they were.
"""

from __future__ import annotations

import argparse
import posixpath
import sys
from pathlib import Path

from app.entry import begin

if __name__ == "__main__":
    begin()

from app.errors import UserError
from app.graph import build
from app.hub import pinned
from app.memory import lines
from app.plan import plan, table
from app.recipe import Recipe, load
from app.store import Output

RECIPES = Path(__file__).parent / "recipes"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m jobs.run", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipe", help="a recipe's file, or the name of one in jobs/recipes (demo)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override one key of the recipe"
    )
    parser.add_argument("--plan", action="store_true", help="print what would run and stop")
    parser.add_argument("--only", metavar="STAGE", help="run one stage; its inputs must be there")
    parser.add_argument("--runs", default="runs", metavar="DIR", help="folder or URI of all runs (default: runs)")
    return parser.parse_args(argv)


def find_recipe(name: str) -> str:
    """A file's path as given, or a shipped recipe by its name."""
    shipped = RECIPES / f"{name}.yaml"
    return str(shipped) if not Path(name).exists() and shipped.is_file() else name


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    try:
        recipe = load(find_recipe(args.recipe), args.set)
        root = posixpath.join(args.runs, recipe.name)
        recipe = pinned(recipe, root, save=not args.plan)
        if args.plan:
            steps = plan(build(recipe), root)
            print("\n".join([table(recipe, steps), *lines(recipe, [step.stage for step in steps])]))
            return 0
        execute(recipe, root, args.only)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def execute(recipe: Recipe, root: str, only: str | None) -> None:
    """Run the stages on Ray and print what came out."""
    from app.cluster import ray_session

    with ray_session():
        from app.pipeline import run  # imports ray, whose doors are closed by now

        steps = run(recipe, root, only)
    from app.report.costs import cost_lines
    from app.report.stage import publish
    from app.report.table import accuracy_table

    report = next(step for step in steps if step.stage.name == "report")
    if report.state == "done":
        publish(report.output)
        results = Output(root, "", "").read_json("results.json")
        print(accuracy_table(results))
        if costs := cost_lines(results):
            print(costs)
        print(f"report: {posixpath.join(root, 'report', 'index.html')}")


if __name__ == "__main__":
    sys.exit(main())
