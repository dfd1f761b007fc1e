"""A writer whose errors are known: it drafts given problems, some of them faulty, and solves them at known rates."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from app.problems.asking import Ask, Reply
from benchmarks.planted import renamed

RIGHT = (1.4, 0.6)  # of a problem: a beta distribution of mean 0.7; some are nearly always solved, some hardly ever


@dataclass(frozen=True)
class Draft:
    """A problem as the writer drafts it.

    Attributes:
        text: what it answers when it is asked to write.
        answer: the right one.
        wrong: answers that it may err to; the first is the one that shared errors come to.
        right: share of its solutions that are right.
        checked: what it answers when it is asked to check; None: that the draft is sound.
    """

    text: str
    answer: str
    wrong: Sequence[str]
    right: float
    checked: str | None = None
    cut: bool = False


class ScriptedWriter:
    """Drafts problem N in attempt N.

    Args:
        alike: share of the wrong solutions of a problem that have one and the same answer.
    """

    def __init__(self, drafts: Sequence[Draft], alike: float) -> None:
        self.drafts, self.alike = drafts, alike

    async def answer(self, ask: Ask) -> Reply:
        what, number, *_ = ask.name.split("-")
        draft = self.drafts[int(number)]
        if what == "write":
            return Reply(draft.text, draft.cut)
        if what == "check":
            return Reply(draft.checked or draft.text, cut=False)
        return Reply(f"It follows that\n#### {self._solve(draft, random.Random(ask.seed))}", cut=False)

    def _solve(self, draft: Draft, rng: random.Random) -> str:
        if rng.random() < draft.right:
            return draft.answer
        return draft.wrong[0] if rng.random() < self.alike else rng.choice(draft.wrong[1:])


def sound(statement: str, answer: str, number: int, results: Sequence[str] = ()) -> Draft:
    """A problem with nothing wrong about it; `results` are wrong answers that come to mind, else numbers near by."""
    rng = random.Random(number)
    value = int(float(answer.replace(",", "")))
    near = [str(value + step) for step in (*range(1, 15), *range(-10, 0))]
    wrong = dict.fromkeys([*(each for each in results if each != answer), *rng.sample(near, len(near))])
    return Draft(f"Problem: {statement}", answer, list(wrong), rng.betavariate(*RIGHT))


Spoil = Callable[[str, str, str, random.Random], str]  # statement, a seed's, an evaluation problem's -> draft

STATEMENTS: dict[str, Spoil] = {
    "copy of a seed": lambda _text, seed, _held_out, _rng: seed,
    "seed with a few words more": lambda _text, seed, _held_out, _rng: f"{seed} Give the number.",
    "evaluation problem, renamed": lambda _text, _seed, held_out, rng: renamed(held_out, rng) or held_out,
    "multiple choice": lambda text, *_: f"{text} (A) 4 (B) 7 (C) 9",
    "yes or no": lambda text, *_: text.rpartition(".")[0] + ". Is that more than ten?",
    "proof": lambda text, *_: f"{text} Prove that this holds for every start.",
    "several parts": lambda text, *_: f"{text} What is half of that?",
    "needs a picture": lambda text, *_: f"{text} Use the numbers in the table below.",
}


def faulty(kind: str, base: Draft, seed: str, held_out: str, number: int) -> Draft:
    """A draft that no set should hold, of one of the kinds of FAULTS."""
    rng, statement = random.Random(number), base.text.removeprefix("Problem: ")
    if kind in STATEMENTS:
        return Draft("Problem: " + STATEMENTS[kind](statement, seed, held_out, rng), base.answer, base.wrong, 1.0)
    given_away = f"{base.text} The answer is {base.answer}."
    changes: Mapping[str, Draft] = {
        "answer given away": Draft(given_away, base.answer, base.wrong, 1.0),
        "refusal": Draft("I cannot help with that.", base.answer, base.wrong, 1.0),
        "cut": Draft(base.text, base.answer, base.wrong, 1.0, cut=True),
        "invalid, and seen by the check": Draft(
            base.text, base.answer, base.wrong, 1.0, checked="Invalid: missing information"
        ),
        "unsolvable: every solution differs": Draft(base.text, base.answer, base.wrong, 0.0),
    }
    return changes[kind]


FAULTS = (
    *STATEMENTS,
    "answer given away",
    "refusal",
    "cut",
    "invalid, and seen by the check",
    "unsolvable: every solution differs",
)
