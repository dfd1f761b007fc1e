"""Who writes problems: the world, or a capable model behind vLLM or an OpenAI-compatible endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from app.problems.settings import SynthesisSettings, WorldSource, WorldWriter
from app.problems.world import Teacher, World, make_problems
from app.problems.writing import (
    new_problem,
    read_solution,
    read_statement,
    seeds_for,
    solve_prompt,
    write_prompt,
)
from app.records import Problem, seed_from

# (text of the request, id, seed) -> what the model answered, None where the text does not fit its context
Answer = Callable[[str, str, int], Awaitable[str | None]]

TOO_LONG = "dropped: prompt longer than the writer's context"
UNREAD = "dropped: no problem in the answer"
UNSOLVED = "dropped: no final answer in the solution"


def from_world(source: WorldSource, writer: WorldWriter, count: int, seed: int) -> list[Problem]:
    """New world problems of the split train with the teacher's solutions, from another stream than the seeds'."""
    world = World(source.operations, source.distractors, source.amounts)
    return make_problems(seed_from("synthesis", seed), count, "train", world, Teacher(writer.careful, writer.merge))


async def write_all(
    answer: Answer, seeds: list[Problem], indices: Sequence[int], settings: SynthesisSettings, seed: int
) -> tuple[list[Problem], dict[str, float]]:
    """Problems of the requests `indices`, in order, and how many answers could not be read."""
    results = await asyncio.gather(*(write_one(answer, seeds, index, settings, seed) for index in indices))
    counts = {"asked": float(len(indices))}
    for result in results:
        if isinstance(result, str):
            counts[result] = counts.get(result, 0) + 1
    return [result for result in results if isinstance(result, Problem)], counts


async def write_one(
    answer: Answer, seeds: list[Problem], index: int, settings: SynthesisSettings, seed: int
) -> Problem | str:
    """One new problem, solved; or why there is none."""
    shown = seeds_for(seeds, index, settings.seeds_per_prompt, seed)
    written = await answer(write_prompt(shown), f"write-{index}", seed_from(seed, "write", index))
    if written is None:
        return TOO_LONG
    statement = read_statement(written)
    if statement is None:
        return UNREAD
    solution = await answer(solve_prompt(statement), f"solve-{index}", seed_from(seed, "solve", index))
    if solution is None:
        return TOO_LONG
    solved = read_solution(solution)
    if solved is None:
        return UNSOLVED
    return new_problem(statement, *solved)
