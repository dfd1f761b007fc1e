"""Further solutions of world problems by the world's teacher."""

from __future__ import annotations

from app.problems.world import Story, Teacher
from app.records import Problem, seed_from


def teacher_solution(problem: Problem, seed: int, teacher: Teacher | None = None) -> str:
    """Another solution: same problem, another draw of the teacher's style."""
    return (teacher or Teacher()).solve(Story.of(problem), seed_from("teacher", problem.id, seed))
