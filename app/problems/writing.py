"""Prompts by which a capable model writes new problems and solves them, and the reading of what it answers.

Two calls a problem, in the spirit of Xwin-Math (arXiv 2403.04706): the first writes a problem from a few seeds, the
second solves it without seeing the seeds. Rules asked for: one numeric answer, common-sense values, self-contained.
"""

from __future__ import annotations

import random
import re

from app.problems.sources import split_answer
from app.records import Problem, digest, seed_from

WRITE = """You write math word problems. Here are some examples.

{examples}

Write one new problem of the same kind and difficulty, about something else. It must have exactly one numeric answer, \
use sensible quantities, and contain all that is needed to solve it. Do not solve it. Answer with the problem only, on \
one line that starts with "Problem:"."""

SOLVE = """Solve this problem step by step, one step a line. End with a last line "#### " followed by the answer alone.

Problem: {statement}"""

STATEMENT = re.compile(r"Problem\s*\d*\s*:\s*(.+?)\s*(?:\n\s*\n|\n\s*(?:Solution|Answer|Problem)\b|\Z)", re.S | re.I)


def seeds_for(seeds: list[Problem], index: int, count: int, seed: int) -> list[Problem]:
    """The seed problems that request `index` shows: fixed by the run's seed, whoever makes the request."""
    rng = random.Random(seed_from("synthesis", seed, index))
    return rng.sample(seeds, min(count, len(seeds)))


def write_prompt(seeds: list[Problem]) -> str:
    """The first call's text."""
    return WRITE.format(examples="\n\n".join(f"Problem: {p.statement}" for p in seeds))


def solve_prompt(statement: str) -> str:
    """The second call's text."""
    return SOLVE.format(statement=statement)


def read_statement(text: str) -> str | None:
    """The new problem in an answer to the first call; None where there is none."""
    after_thinking = text.rpartition("</think>")[2]
    found = STATEMENT.search(after_thinking)
    statement = " ".join(found.group(1).split()) if found else ""
    return statement if len(statement.split()) >= 5 else None


def read_solution(text: str) -> tuple[str, str] | None:
    """(answer, solution) in an answer to the second call; None where it does not end with `#### ANSWER`."""
    answer, solution = split_answer(text.rpartition("</think>")[2].strip(), "gsm8k")
    if not solution or not answer or "\n" in answer or len(answer) > 60:
        return None
    return answer, solution


def new_problem(statement: str, answer: str, solution: str) -> Problem:
    """A synthetic training problem; its id follows from its statement."""
    return Problem("p-" + digest("synthesis", statement), statement, answer, "train", "synthesis", solution)
