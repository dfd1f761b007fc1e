"""The oracle of the grade-school world: the first wrong line of any trace.

Training must never see it: credit has to find the same line from final answers alone.
"""

from __future__ import annotations

import re
from fractions import Fraction

from app.problems.world import Event, Story
from app.records import Problem

LINE = re.compile(r"(\d+)((?: [-+*/] \d+)+) = (\d+)")
TERM = re.compile(r" ([-+*/]) (\d+)")
ANSWER = re.compile(r"#### (\d+)")


def first_wrong_line(problem: Problem, trace: str) -> int | None:
    """Index (from 0) of the first wrong line of a trace; None where every line is right and the answer is given.

    Wrong is a line that does not parse, does not start at the running total, uses a number no event holds (a
    distractor), miscounts, or jumps over an event that no later line makes up for. Additions and subtractions between
    two multiplicative events may come in any order. A trace that stops early is wrong at the line it lacks.
    """
    return _Reading(Story.of(problem)).first_wrong(trace.split("\n"))


class _Reading:
    """A trace read line by line against the events still to be used."""

    def __init__(self, story: Story) -> None:
        self.total = story.start
        self.pending: list[Event] = list(story.events)
        self.jumped: list[int | None] = [None] * len(self.pending)  # the line that first left the event behind

    def first_wrong(self, lines: list[str]) -> int | None:
        for number, line in enumerate(lines):
            answer = ANSWER.fullmatch(line)
            if answer:
                return self._end(number, int(answer[1]), last=number == len(lines) - 1)
            if not self._read(number, line):
                return self._blame(number)
        return self._blame(len(lines))

    def _read(self, number: int, line: str) -> bool:
        """Apply one equation; whether it is right, its jumps over pending events aside."""
        match = LINE.fullmatch(line)
        if not match or int(match[1]) != self.total:
            return False
        terms = [Event(op, int(amount)) for op, amount in TERM.findall(match[2])]
        if not all(self._use(number, term) for term in terms) or evaluate(self.total, terms) != int(match[3]):
            return False
        self.total = int(match[3])
        return True

    def _use(self, number: int, term: Event) -> bool:
        """Take the term from the pending events: the next one, or one that only + and - separate from it."""
        for place, event in enumerate(self.pending):
            if event == term:
                for k in range(place):
                    self.jumped[k] = number if self.jumped[k] is None else self.jumped[k]
                del self.pending[place], self.jumped[place]
                return True
            if event.op in "*/" or term.op in "*/":
                return False
        return False

    def _end(self, number: int, answer: int, last: bool) -> int | None:
        right = not self.pending and answer == self.total and last
        return None if right else self._blame(number)

    def _blame(self, number: int) -> int:
        """The line that went wrong: an earlier one, if it left behind an event that was never made up for."""
        return min([number, *(line for line in self.jumped if line is not None)])


def evaluate(total: int, terms: list[Event]) -> Fraction:
    """Value of `total` followed by the terms, multiplication and division first."""
    products = [Fraction(total)]
    for term in terms:
        if term.op == "*":
            products[-1] *= term.amount
        elif term.op == "/":
            if term.amount == 0:
                return Fraction(-1)  # no total of the world
            products[-1] /= term.amount
        else:
            products.append(Fraction(term.amount if term.op == "+" else -term.amount))
    return sum(products, Fraction(0))
