"""A stage whose references cannot be read stops before it spends tokens on traces that nobody can judge."""

from __future__ import annotations

from collections.abc import Iterable

from app.errors import UserError
from app.problems.select import ROWS, Problems
from app.records import Problem
from app.store import Output
from app.verification.references import readable
from app.verification.settings import BUILT_IN, VerificationSettings

SHOWN = 5  # references named in the message


def check_references(problems: Output, split: str, settings: VerificationSettings, name: str) -> None:
    """Raise UserError where too large a share of a split's references cannot be read; the first are named.

    Only the built-in verifier alone is known to read what `readable` reads: others are not stopped.

    Args:
        name: of the stage, for the message.
    """
    if settings.verifier != BUILT_IN or settings.llm:
        return
    split_problems = Problems(problems, split)
    where = f"{name}: {split} problems"
    check_readable(_all(split_problems), len(split_problems), settings.bad_references, where)


def check_readable(problems: Iterable[Problem], count: int, most: float, name: str) -> None:
    """The same of `count` problems at hand; `name` says whose they are."""
    first: list[str] = []
    bad = 0
    for problem in problems:
        if not readable(problem.answer):
            bad += 1
            if bad <= SHOWN:
                first.append(f"  {problem.id} ({problem.source}): {problem.answer!r:.100}")
    if bad > most * count:
        raise UserError(
            f"{name}: {bad:,} of {count:,} reference answers cannot be read, so no trace of them could be judged; "
            f"at most {most:.2%} may be so (verification.bad_references). The first:\n"
            + "\n".join(first)
            + "\nGive answers that can be read (docs/verifier.md), leave these problems out, or raise the setting."
        )


def _all(problems: Problems) -> Iterable[Problem]:
    for start in range(0, len(problems), ROWS):
        yield from problems.slice(start, start + ROWS)
