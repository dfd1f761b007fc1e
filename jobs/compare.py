"""Two runs side by side: `python -m jobs.compare A B [--problems N]`.

What their recipes set otherwise, how the policies of one name differ on the same held-out problems (paired, with 95%
intervals), and which problems B wins or loses.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from pyarrow import fs as pafs

from app.errors import UserError, one_clear_error
from app.evaluation.metrics import paired
from app.graph import build
from app.plan import flat, plan
from app.problems.select import Problems
from app.recipe import Recipe
from app.report.results import answers_of
from app.report.table import interval, percent, points
from app.store import Output, filesystem

SKIPPED = ("name", "placement", "prices")  # they decide no result


class Finished:
    """The evaluations of one run. Raises UserError where it has none."""

    def __init__(self, root: str) -> None:
        self.root = root
        fs, folder = filesystem(root)
        if fs.get_file_info(f"{folder}/recipe.json").type != pafs.FileType.File:
            raise UserError(f"{root}: no run there (no recipe.json); give a run's folder, such as runs/demo")
        self.recipe = Recipe.model_validate(Output(root, "", "").read_json("recipe.json"))
        done = {s.stage.name: s.output for s in plan(build(self.recipe), root) if s.state == "done"}
        self.evaluations = {n.partition("/")[2]: o for n, o in done.items() if n.startswith("evaluation/")}
        if not self.evaluations:
            raise UserError(f"{root}: no policy of it has been evaluated; finish it first: eightfold run")
        self.problems = done["problems"]

    def greedy(self, policy: str) -> dict[str, str]:
        """Greedy outcomes by problem."""
        return answers_of(self.evaluations[policy]).greedy


def settings(first: Finished, second: Finished) -> Iterator[str]:
    """A line for each setting that the two recipes give otherwise."""
    one, other = (flat(run.recipe.model_dump(mode="json", exclude=set(SKIPPED))) for run in (first, second))
    for name in sorted(one.keys() | other.keys()):
        if one.get(name) != other.get(name):
            yield f"  {name}: {one.get(name)} -> {other.get(name)}"


def policies(first: Finished, second: Finished) -> Iterator[tuple[str, list[str], list[str]]]:
    """(line, problems won, problems lost) of each policy that both have."""
    for name in first.evaluations:
        if name not in second.evaluations:
            continue
        before, after = first.greedy(name), second.greedy(name)
        both = sorted(before.keys() & after.keys())
        found = paired(after, before)
        if not found.n:
            yield f"  {name:<16} not one problem in common", [], []
            continue
        shares = [sum(each[p] == "correct" for p in both) / len(both) for each in (before, after)]
        difference: dict[str, Any] = found.difference.json()
        yield (
            f"  {name:<16} {percent(shares[0]):>7} -> {percent(shares[1]):>7}  {points(difference['value'])} points "
            f"{interval(difference, signed=True)}, {found.n:,} problems, p = {found.p_value:.3g}; "
            f"won {found.gained:,}, lost {found.lost:,}",
            [p for p in both if after[p] == "correct" and before[p] == "incorrect"],
            [p for p in both if before[p] == "correct" and after[p] == "incorrect"],
        )


@one_clear_error
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.compare", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("first", help="a run's folder or URI, such as runs/demo")
    parser.add_argument("second", help="another")
    parser.add_argument("--problems", type=int, default=3, metavar="N", help="shown of those won and lost (default: 3)")
    args = parser.parse_args(argv)
    first, second = Finished(args.first), Finished(args.second)
    print("\n".join(["settings that differ:", *(list(settings(first, second)) or ["  none"])]))
    print(f"accuracy, {args.first} -> {args.second}:")
    problems = Problems(first.problems, first.recipe.evaluation.split)
    for line, won, lost in policies(first, second):
        print(line)
        for title, names in (("won", won), ("lost", lost)):
            for problem in problems.named(names[: args.problems]).values():
                print(f"    {title}: {problem.id}: {problem.statement!r:.90}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
