"""A grid of recipes and what it tells: `python -m jobs.study STUDY.yaml [--plan] [--runs DIR]`.

A study names a recipe, keys of it with several values, and a folder. Stages that cells share run once. Every trained
policy that was evaluated leaves a small file in the folder, and what is there is not made again, on whatever machine.
"""

from __future__ import annotations

import argparse
import itertools
import posixpath
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.entry import begin

if __name__ == "__main__":
    begin()

from app.errors import UserError, nearest, one_clear_error
from app.graph import build
from app.hub import pinned
from app.plan import Step, plan, tokens_at_most, training_problems
from app.report.table import duration
from app.store import Output
from app.study.cells import Cell, Point, cells, points_of, size_key
from app.study.ledger import Ledger
from app.study.reading import results
from app.study.record import record, upstream
from app.study.series import baseline, complete, series_of
from app.study.settings import Study, read_study
from jobs.run import find_recipe, quiet

STUDIES = Path(__file__).parent / "studies"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m jobs.study", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("study", help="a study's file, or the name of one in jobs/studies (world_quick)")
    parser.add_argument("--plan", action="store_true", help="print what would run and stop")
    parser.add_argument("--minutes", type=float, metavar="N", help="after which no further cell is begun")
    parser.add_argument("--runs", default="runs", metavar="DIR", help="folder or URI of all runs (default: runs)")
    return parser.parse_args(argv)


def find_study(name: str) -> str:
    """A file's path as given, or a shipped study by its name. Raises UserError where a bare name is neither."""
    shipped = STUDIES / f"{name}.yaml"
    if Path(name).is_file() or Path(name).suffix or len(Path(name).parts) != 1:
        return name
    if not shipped.is_file():
        there = nearest(name, (path.stem for path in STUDIES.glob("*.yaml")))
        raise UserError(f"{name}: no study of that name{there}; or give a study's file")
    return str(shipped)


@one_clear_error
def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    path = find_study(args.study)
    study = read_study(path)
    carry_out(study, path, args.runs, study.folder, args.plan, args.minutes)
    return 0


def carry_out(
    study: Study, where: str, runs: str, commits: str, only_plan: bool = False, minutes: float | None = None
) -> None:
    """Make what is missing of a study, and show what is there; or print the plan.

    Args:
        where: what the study was read from, for messages.
        runs: folder or URI of all runs.
        commits: folder or URI that keeps the commits of hub names.
        minutes: after so many no further cell is begun.
    """
    root = posixpath.join(runs, study.name)
    found = cells(study, find_recipe(study.recipe), where)
    todo = [replace(cell, recipe=pinned(cell.recipe, commits, save=not only_plan)) for cell in found]
    points = [point for cell in todo for point in points_of(cell)]
    size = size_key(study.size, todo[0].recipe)
    lines = series_of(points, size)
    against = baseline(lines, where)  # now, not after all is made
    ledger = Ledger(study.folder)
    left = missing(points, ledger.keys())
    if only_plan:
        print(planned(points, left, root))
        return
    if left:
        run_all(left, ledger, root, minutes)
    lines = complete(lines, ledger.keys())
    if lines:
        print(shown(results(study.name, size, lines, against.title, ledger), study.folder))
    if left := missing(points, ledger.keys()):
        print(f"{len(left)} points are left to make: the same command goes on; what is shown are whole seeds")


def shown(found: dict[str, Any], folder: str) -> str:
    """Write results.json, a page and its figures into the study's folder; the tables, and where the page is."""
    from app.report.curve import GREEDY, alone, figures, page, table

    place = Output(folder, "", "")
    place.write_json("results.json", found)
    names = {"greedy": GREEDY, "drawn": "error of a draw"}
    curves = {names[of]: curve for of, curve in found["curves"].items()}
    files = {"index.html": page(found["study"], curves)}
    for of, curve in found["curves"].items():
        files |= {f"{of}-{name}.svg": alone(drawn, curve) for name, drawn in figures(curve, names[of]).items()}
    for name, text in files.items():
        with place.atomic(name) as sink:
            sink.write(text.encode())
    tables = "\n\n".join(f"{of}\n{table(curve)}" for of, curve in curves.items())
    took = f"{found['points']} points, tested on {found['split']} problems, {duration(found['seconds'])} of stages"
    mixed = [library for library, versions in found["versions"].items() if len(versions) > 1]
    took += f"; made with several versions of {', '.join(mixed)}" if mixed else ""
    return f"{tables}\n\n{took}\nstudy: {posixpath.join(folder, 'index.html')}"


def missing(points: list[Point], there: set[str]) -> list[Point]:
    """The points that are to be made; of several that are equal, the first."""
    left: dict[str, Point] = {}
    for point in points:
        if point.key not in there:
            left.setdefault(point.key, point)
    return list(left.values())


def by_cell(points: list[Point]) -> list[tuple[Cell, list[Point]]]:
    """Points of one cell together."""
    return [(cell, list(group)) for cell, group in itertools.groupby(points, key=lambda point: point.cell)]


def run_all(left: list[Point], ledger: Ledger, root: str, minutes: float | None) -> None:
    """Make what is missing on Ray."""
    from app.cluster import ray_session

    with quiet(root), ray_session():
        from app.pipeline import run  # imports ray, whose doors are closed by now

        make(left, ledger, root, run, minutes)


def make(
    left: list[Point], ledger: Ledger, root: str, run: Callable[..., list[Step]], minutes: float | None = None
) -> None:
    """Run the stages of points, a cell at a time, and keep the points; those of a cell that fails too, where they are
    finished. No cell is begun after `minutes`.
    """
    groups, begun = by_cell(left), time.monotonic()
    for number, (cell, points) in enumerate(groups, 1):
        if minutes is not None and time.monotonic() - begun >= 60 * minutes:
            return
        print(f"cell {number} of {len(groups)}: {cell.title}: {', '.join(p.run for p in points)}", flush=True)
        try:
            run(cell.recipe, root, until=[point.stage for point in points])
        finally:
            steps = {step.stage.name: step for step in plan(build(cell.recipe), root)}
            for point in points:
                if steps[point.stage].state == "done":
                    record(ledger, point, steps)


def planned(points: list[Point], left: list[Point], root: str) -> str:
    """What would run, as text: the cells, then stages and tokens of all of them together."""
    lines = [f"{cell.title}: {_told(group, left)}" for cell, group in by_cell(points)]
    steps: dict[str, Step] = {}
    tokens: dict[str, int] = {}
    for cell, group in by_cell(left):
        whole = {step.stage.name: step for step in plan(build(cell.recipe), root)}
        for name in {name for point in group for name in upstream(whole, point.stage)}:
            step = whole[name]
            steps[step.output.key] = step
            tokens[step.output.key] = tokens_at_most(cell.recipe, step.stage, training_problems(cell.recipe)) or 0
    runs = [key for key, step in steps.items() if step.state not in ("done", "left out")]
    there = len({point.key for point in points}) - len(left)
    lines.append(f"{len(left)} points to make, {there} in the ledger")
    lines.append(f"{len(runs)} stages run, {len(steps) - len(runs)} are reused")
    most = sum(tokens[key] for key in runs)
    lines.append(f"tokens to sample at most: {most:,} (every trace at its limit; traces usually end earlier)")
    return "\n".join(lines)


def _told(group: list[Point], left: list[Point]) -> str:
    """What becomes of a cell's points."""
    made = [point.run for point in group if any(point is other for other in left)]
    there = [point.run for point in group if point.run not in made]
    return "; ".join([*([f"makes {', '.join(made)}"] if made else []), *([f"has {', '.join(there)}"] if there else [])])


if __name__ == "__main__":
    sys.exit(main())
