"""How much data each method needs: run a recipe at several sizes and read the curves against each other.

    python -m jobs.curve RECIPE --sizes 250,500,1000 [--baseline-sizes 2000,4000,8000] [--seeds 0,1] [--runs DIR]

The size is `synthesis.count`, or `problems.train` where a recipe writes no problems. At --sizes every method runs, at
--baseline-sizes SFT alone, for its curve must reach as far as the others' savings. It is a study (jobs/study.py) that
shares the folder of the recipe's own run, so what exists there is reused; its ledger and its page are in `curve` there.
"""

from __future__ import annotations

import argparse
import posixpath
import sys

from app.entry import begin

if __name__ == "__main__":
    begin()

from app.errors import UserError, one_clear_error
from app.hub import pinned
from app.recipe import Recipe, load, overridden
from app.report.results import baseline_of
from app.store import Output
from app.study.cells import size_key
from app.study.settings import Part, Study
from jobs.run import find_recipe
from jobs.study import carry_out


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


def study_of(own: Recipe, args: argparse.Namespace) -> Study:
    """The curve as a study. Raises UserError where the recipe trains no SFT."""
    baseline = baseline_of(own, list(own.trained()))
    if baseline is None:
        raise UserError(f"{args.recipe}: a curve is read against SFT: add a run of method sft")
    size, seeds = size_key(None, own), [own.seed] if args.seeds is None else args.seeds
    larger = [each for each in args.baseline_sizes if each not in args.sizes]
    return Study(
        name=own.name,
        recipe=args.recipe,
        set=dict(overridden(override) for override in args.set),
        axes={size: args.sizes, "seed": seeds},
        points=(Part(axes={size: larger}, runs=(baseline,)),) if larger else (),
        folder=posixpath.join(args.runs, own.name, "curve"),
    )


@one_clear_error
def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    own = load(find_recipe(args.recipe), args.set)
    root = posixpath.join(args.runs, own.name)
    carry_out(study_of(own, args), args.recipe, args.runs, root)
    own = pinned(own, root)
    # what the folder shows is the recipe itself, not the curve's last cell
    Output(root, "", "").write_json("recipe.json", own.model_dump(mode="json"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
