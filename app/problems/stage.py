"""Stage problems: the source's problems, checked and split."""

from __future__ import annotations

from app.problems.select import write_problems
from app.problems.settings import ProblemsSettings
from app.problems.sources import from_files, from_hub
from app.problems.splits import check_disjoint, choose
from app.problems.world import World, make_problems
from app.records import Problem
from app.stage import StageContext


def run(context: StageContext) -> None:
    """Write all splits as one shard."""
    context.progress.begin(1)
    problems = load(context.recipe.problems, context.recipe.seed)
    counts = {f"{split} problems": float(sum(p.split == split for p in problems)) for split in SPLITS}
    write_problems(context.output, problems, counts)
    context.progress.advance(1, counts)


SPLITS = ("train", "validation", "test")


def load(settings: ProblemsSettings, seed: int) -> list[Problem]:
    """Problems of the recipe's source."""
    source = settings.source
    if source.kind == "world":
        world = World(source.operations, source.distractors, source.amounts)
        problems = [p for split in SPLITS for p in make_problems(seed, getattr(settings, split), split, world)]
        check_disjoint(problems)
        return problems
    return choose(from_files(source) if source.kind == "file" else from_hub(source), settings, seed)
