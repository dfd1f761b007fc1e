"""The reference answer of a new problem: what enough of several solutions agree on, else none.

OpenMathInstruct-2 (arXiv 2410.01560) takes the majority of 32, DeepMath (2504.11456) asks three to agree. One of two
rules decides over at most n solutions:

    agreement   the largest group of equal answers has at least `agreement` n of the votes of all n, and more than any
                other. Drawing stops where the rest cannot change that.
    margin      the first group that is `margin` votes ahead of every other wins: a sequential test, which spends few
                solutions on what is clear and many on what is not.

Solutions are asked for one batch after the other, each as large as the fewest votes that could still decide, so that
nothing is asked in vain.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from app.problems.settings import VoteSettings
from app.sampling.engine import all_or_none

Same = Callable[[str, str], bool]


@dataclass(frozen=True)
class Solved:
    """One solution, or why there is none (`text` is then empty)."""

    answer: str = ""
    text: str = ""
    fault: str = ""


@dataclass
class Poll:
    """Solutions in the order of their numbers, and their answers in groups of equals."""

    settings: VoteSettings
    same: Same
    drawn: list[Solved] = field(default_factory=list)
    groups: list[list[Solved]] = field(default_factory=list)  # by first answer

    def add(self, solved: Solved) -> None:
        """Count the next solution; one without an answer votes for none."""
        self.drawn.append(solved)
        if solved.fault:
            return
        for group in self.groups:
            if any(known.answer == solved.answer for known in group) or self.same(group[0].answer, solved.answer):
                group.append(solved)
                return
        self.groups.append([solved])

    @property
    def needed(self) -> int:
        """Votes that win."""
        share = self.settings.agreement
        return 1 if share is None else max(1, math.ceil(share * self.settings.solutions - 1e-9))

    @property
    def left(self) -> int:
        return self.settings.solutions - len(self.drawn)

    @property
    def votes(self) -> tuple[int, int]:
        """Of the largest group and of the next."""
        first, second, *_ = [*sorted((len(group) for group in self.groups), reverse=True), 0, 0]
        return first, second

    @property
    def winner(self) -> list[Solved] | None:
        """The group that has won: by its margin, or because no further solution can beat it. None while none has."""
        first, second = self.votes
        margin = self.settings.margin
        ahead = second + (self.left + 1 if margin is None else margin)
        return max(self.groups, key=len) if first >= max(self.needed, ahead) else None

    @property
    def fewest(self) -> int:
        """Solutions to draw before anything can be decided; 0 where it is."""
        first, second = self.votes
        margin = self.settings.margin
        short = self.needed - first if margin is None else margin - (first - second)
        if self.winner or short > self.left or not self.left:
            return 0
        if margin is not None:  # a vote for the next answer takes two from what can still be reached
            return min(short, (self.left - short) // 2 + 1)
        to_win = max(short, (second + self.left - first) // 2 + 1)
        to_lose = self.left - short + 1
        return min(to_win, to_lose, self.left)


async def poll(settings: VoteSettings, same: Same, solve: Callable[[int], Awaitable[Solved]]) -> Poll:
    """Draw solutions by number until the vote is decided."""
    found = Poll(settings, same)
    while batch := found.fewest:
        begin = len(found.drawn)
        for solved in await all_or_none(_task(solve, number) for number in range(begin, begin + batch)):
            found.add(solved)
    return found


async def _task(solve: Callable[[int], Awaitable[Solved]], number: int) -> Solved:
    return await solve(number)


def distinct(group: list[Solved], most: int) -> list[str]:
    """Texts of a group in order, equal ones (but for spacing) once, at most `most`."""
    texts = {" ".join(solved.text.split()): solved.text for solved in reversed(group)}
    order = {" ".join(solved.text.split()): None for solved in group}
    return [texts[key] for key in order][:most]
