"""Which problems a run uses: held-out validation, limits by seed, and no evaluation problem among the training ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from app.errors import UserError
from app.problems.overlap import statement_digest
from app.problems.settings import ProblemsSettings
from app.records import Problem, digest


def choose(problems: list[Problem], settings: ProblemsSettings, seed: int) -> list[Problem]:
    """The run's problems. Which ones a limit keeps follows from the seed and the ids, not from the order of a file."""
    by_split: dict[str, list[Problem]] = {"train": [], "validation": [], "test": []}
    for problem in problems:
        by_split[problem.split].append(problem)
    ranked = {split: _ranked(rows, settings.seed_of(split, seed), split) for split, rows in by_split.items()}
    if not ranked["validation"] and settings.validation:
        ranked["validation"], ranked["train"] = _hold_out(ranked["train"], settings.validation)
    chosen = []
    for split, rows in ranked.items():
        wanted = getattr(settings, split)
        if wanted is not None and wanted > len(rows):
            raise UserError(f"problems.{split}: {wanted} asked for, the source has {len(rows)}; lower it")
        chosen += rows[:wanted]
    check_disjoint(chosen)
    return chosen


def check_disjoint(problems: list[Problem]) -> None:
    """Raise UserError where an evaluation statement is among the training ones, or an id occurs twice."""
    ids: set[str] = set()
    for problem in disjoint(sorted(problems, key=lambda p: p.split == "train")):
        if problem.id in ids:
            raise UserError(f"problem id {problem.id!r} occurs in two splits; ids must be unique over the whole source")
        ids.add(problem.id)


def disjoint(problems: Iterable[Problem]) -> Iterator[Problem]:
    """The same problems, of which those of evaluation come first and are kept in mind.

    Raises UserError where a training problem has the statement of one of them.
    """
    evaluation: dict[str, Problem] = {}
    for problem in problems:
        statement = statement_digest(problem.statement)
        held_out = evaluation.get(statement)
        if problem.split != "train":
            evaluation[statement] = problem
        elif held_out is not None:
            raise UserError(
                f"training problem {problem.id} ({problem.source}) repeats {held_out.split} problem {held_out.id} "
                f"({held_out.source}): {problem.statement[:80]!r}. Remove it from the training file"
            )
        yield problem


def _ranked(problems: list[Problem], seed: int, split: str) -> list[Problem]:
    return sorted(problems, key=lambda p: digest(seed, split, p.id))


def _hold_out(train: list[Problem], count: int) -> tuple[list[Problem], list[Problem]]:
    if count >= len(train):
        raise UserError(
            f"problems.validation: {count} asked for, but only {len(train)} training problems to hold out from"
        )
    held = [Problem(p.id, p.statement, p.answer, "validation", p.source, p.solution, p.meta) for p in train[:count]]
    return held, train[count:]
