"""One new problem by a capable model: written, checked, solved several times, voted on. Every end has a name.

The order is Xwin-Math's (arXiv 2403.04706: write, verify, revise, solve) with OpenMathInstruct-2's vote for the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import pyarrow as pa

from app.problems.asking import Answer, Ask, Meter, Reply
from app.problems.kinds import fault_of_answer, fault_of_statement
from app.problems.overlap import statement_digest
from app.problems.prompts import filled, prompt
from app.problems.settings import SynthesisSettings
from app.problems.sources import split_answer
from app.problems.strategies import Material, chosen
from app.problems.vote import Same, Solved, distinct, poll
from app.records import Problem, Record, digest, seed_from

WRITTEN = "written"  # the outcome of an attempt that gave a problem with a voted answer

TOO_LONG = "prompt longer than the writer's context"
NO_MATERIAL = "no seeds for the strategy"
UNREAD = "no problem in the answer"
CUT = "answer cut at max_tokens"
COPIED = "exact duplicate of a problem of the source"
INVALID = "withdrawn by the check"
NO_ANSWER = "no answer in the solutions"
NO_AGREEMENT = "no agreement"

ENDINGS = {
    "hash": 'End with a last line "#### " followed by the answer alone.',
    "boxed": "End with the answer alone in \\boxed{}.",
}
STATEMENT = re.compile(
    r"Problem\**\s*\d*\s*:\**\s*(.+?)\s*(?:\n\s*\n|\n\s*(?:\*\*)?(?:Solution|Answer|Problem)\b|\Z)", re.S | re.I
)
REFUSED = re.compile(r"^\W*Invalid\W*:?\W*([a-z ]*)", re.M | re.I)
REASONS = ("missing information", "contradiction", "several answers", "no answer", "unit missing", "not a math problem")


@dataclass(frozen=True, slots=True)
class Attempt(Record):
    """What became of one attempt to write a problem. `outcome` is WRITTEN or why there is none."""

    number: int
    strategy: str
    outcome: str
    statement: str = ""
    answer: str = ""
    solutions: Sequence[str] = ()
    votes: int = 0  # for the answer
    drawn: int = 0  # solutions
    requests: int = 0
    read: int = 0  # tokens
    written: int = 0

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("number", pa.int64(), nullable=False),
            pa.field("strategy", pa.string(), nullable=False),
            pa.field("outcome", pa.string(), nullable=False),
            pa.field("statement", pa.string(), nullable=False),
            pa.field("answer", pa.string(), nullable=False),
            pa.field("solutions", pa.list_(pa.string()), nullable=False),
            pa.field("votes", pa.int32(), nullable=False),
            pa.field("drawn", pa.int32(), nullable=False),
            pa.field("requests", pa.int32(), nullable=False),
            pa.field("read", pa.int64(), nullable=False),
            pa.field("written", pa.int64(), nullable=False),
        ]
    )

    def problem(self) -> Problem:
        """The problem it gave; its id follows from its statement."""
        meta: dict[str, object] = {"strategy": self.strategy, "votes": self.votes, "drawn": self.drawn}
        if len(self.solutions) > 1:
            meta["more_solutions"] = list(self.solutions[1:])
        name = "p-" + digest("synthesis", self.statement)
        solution = self.solutions[0] if self.solutions else None
        return Problem(name, self.statement, self.answer, "train", "synthesis", solution, json.dumps(meta))


class Vote(NamedTuple):
    """What a vote gave, as `Attempt` keeps it."""

    answer: str = ""
    solutions: Sequence[str] = ()
    votes: int = 0
    drawn: int = 0


class Dropped(Exception):
    """The attempt gives no problem; says why."""


class Writing:
    """Attempts over one material.

    Args:
        ending: key of ENDINGS: how solutions mark their answer.
        numeric: answers must be numbers, as the seeds' are.
        known: `statement_digest` of the source's problems.
        same: whether two answers are the same answer.
    """

    def __init__(
        self,
        answer: Answer,
        material: Material,
        settings: SynthesisSettings,
        seed: int,
        ending: str,
        numeric: bool,
        known: frozenset[str],
        same: Same,
    ) -> None:
        self.answer, self.material, self.settings, self.seed = answer, material, settings, seed
        self.ending, self.numeric, self.known, self.same = ending, numeric, known, same

    async def attempt(self, number: int) -> Attempt:
        """Attempt `number`: the same whoever makes it, as far as the writer answers the same."""
        strategy, rng = chosen(self.settings.strategies, number, self.seed)
        meter, statement = Meter(self.answer), ""
        outcome, found = WRITTEN, Vote()
        try:
            statement = await self._write(meter, number, strategy.ask(self.material, rng))
            found = await self._solve(meter, number, statement)
        except Dropped as why:
            outcome = str(why)
        answer, solutions, votes, drawn = found
        bill = (meter.requests, meter.read, meter.written)
        return Attempt(number, strategy.name, outcome, statement, answer, solutions, votes, drawn, *bill)

    async def _write(self, meter: Meter, number: int, ask: str | None) -> str:
        if ask is None:
            raise Dropped(NO_MATERIAL)
        statement = read_statement(await self._said(meter, "write", number, ask))
        if statement is None:
            raise Dropped(UNREAD)
        self._accept(statement)
        if self.settings.check:
            checked = await self._said(meter, "check", number, filled(prompt("check"), {"statement": statement}))
            revised = read_check(checked)
            if revised is not None and revised != statement:
                self._accept(revised)
                statement = revised
        return statement

    def _accept(self, statement: str) -> None:
        if fault := fault_of_statement(statement):
            raise Dropped(fault)
        if statement_digest(statement) in self.known:
            raise Dropped(COPIED)

    async def _said(self, meter: Meter, what: str, number: int, text: str) -> str:
        settings = self.settings
        temperature = 0.0 if what == "check" else settings.temperature
        name = f"{what}-{number}"
        reply = await meter.ask(Ask(name, text, seed_from(self.seed, what, number), temperature, settings.max_tokens))
        return _whole(reply)

    async def _solve(self, meter: Meter, number: int, statement: str) -> Vote:
        vote, seed = self.settings.vote, self.seed
        text = filled(prompt("solve"), {"ending": ENDINGS[self.ending], "statement": statement})
        limit = vote.max_tokens or self.settings.max_tokens

        async def solve(place: int) -> Solved:
            name = f"solve-{number}-{place}"
            ask = Ask(name, text, seed_from(seed, "solve", number, place), vote.temperature, limit)
            return read_solution(await meter.ask(ask), self.ending)

        found = await poll(vote, self.same, solve)
        winner = found.winner
        if winner is None:
            faults = [solved.fault for solved in found.drawn]
            raise Dropped(max(set(faults), key=faults.count) if all(faults) else NO_AGREEMENT)
        answer = winner[0].answer
        if fault := fault_of_answer(statement, answer, self.numeric):
            raise Dropped(fault)
        return Vote(answer, distinct(winner, vote.kept), len(winner), len(found.drawn))


def _whole(reply: Reply | None) -> str:
    """The text of an answer that is all there."""
    if reply is None:
        raise Dropped(TOO_LONG)
    if reply.cut:
        raise Dropped(CUT)
    return reply.text


def read_statement(text: str) -> str | None:
    """The new problem in an answer; None where there is none."""
    found = STATEMENT.search(text)
    return " ".join(found.group(1).split()) or None if found else None


def read_check(text: str) -> str | None:
    """The statement that a check left or mended; None where it says nothing that can be read: the draft then stands.

    Raises Dropped where it found the draft invalid, with its reason where that is one of those it was offered.
    """
    refused = REFUSED.search(text)
    if refused:
        said = refused.group(1).strip().lower()
        raise Dropped(f"{INVALID}: {said}" if said in REASONS else INVALID)
    return read_statement(text)


def read_solution(reply: Reply | None, ending: str) -> Solved:
    """One solution's answer, by the mark that was asked for."""
    if reply is None:
        return Solved(fault=TOO_LONG)
    if reply.cut:
        return Solved(fault=CUT)
    answer, solution = split_answer(reply.text, "gsm8k" if ending == "hash" else "boxed")
    if not solution or not answer or "\n" in answer or len(answer) > 60:
        return Solved(fault=NO_ANSWER)
    return Solved(answer, solution)
