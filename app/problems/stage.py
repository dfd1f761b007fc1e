"""Stage problems: the source's problems, checked and split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import chain

from app.problems.rows import BadRows
from app.problems.select import write_problems
from app.problems.settings import ProblemsSettings
from app.problems.sources import from_files, from_hub
from app.problems.splits import choose, disjoint
from app.problems.world import World, each_problem
from app.records import Problem
from app.stage import StageContext


def run(context: StageContext) -> None:
    """Write all splits as one shard."""
    context.progress.begin(1)
    problems, counts = load(context.recipe.problems, context.recipe.seed, context.progress.say)
    told = {f"{split} problems": float(counts[split]) for split in SPLITS}
    if counts.get(SKIPPED):
        told[SKIPPED] = float(counts[SKIPPED])
    write_problems(context.output, problems, told)
    context.progress.advance(1, told)


SPLITS = ("test", "validation", "train")  # those of evaluation first, to compare training problems with
SKIPPED = "skipped rows"


def load(
    settings: ProblemsSettings, seed: int, say: Callable[[str], object] = lambda _: None
) -> tuple[Iterable[Problem], Mapping[str, int]]:
    """Problems of the recipe's source, and how many there are of each split. The world's are made one at a time.

    Where the source says that bad rows are skipped, SKIPPED is how many were, and `say` is told of the first.
    """
    source = settings.source
    if source.kind == "world":
        world = World(source.operations, source.distractors, source.amounts)
        counts = {split: getattr(settings, split) for split in SPLITS}
        made = chain.from_iterable(
            each_problem(settings.seed_of(split, seed), count, split, world) for split, count in counts.items()
        )
        return disjoint(made), counts
    bad = BadRows(source.on_bad_row == "skip")
    problems = choose(from_files(source, bad) if source.kind == "file" else from_hub(source, bad), settings, seed)
    counts = Counter(problem.split for problem in problems)
    if bad.count:
        counts[SKIPPED] = bad.count
        for fault in (f"{bad.count:,} rows skipped; the first are", *bad.first):
            say(fault)
    return problems, counts
