"""The student of tests/credit as a backend that a placement can name."""

from __future__ import annotations

import random
from typing import Any

from tests.credit import student as world


def create(*_: Any) -> world.Student:
    return world.Student(world.problems(), world.renderer())


def traces(problems: int, each: int) -> list[dict[str, Any]]:
    """Rows as a user would have them: solutions of the student, right and wrong ones."""
    student = world.Student(world.problems(), world.renderer(), slip=0.3)
    rows = []
    for problem in world.problems()[:problems]:
        for seed in range(each):
            text = student._solve(student.stories[problem.statement], [], random.Random(seed))
            rows.append({"prompt": f"{problem.statement}\n", "completion": text, "answer": problem.answer})
    return rows
