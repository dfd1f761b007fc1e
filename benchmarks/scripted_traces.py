"""Made-up problems and traces in the manner of GSM8K, cheap to make: for measuring everything but the engine.

A problem asks for a number of up to four digits. A trace is 2 to 8 lines of sums with a sentence each, one token for
each word, number or sign, and ends with its answer in one of the forms that policies use; three in four are right.
"""

from __future__ import annotations

import functools
import random
import re

from app.records import Problem
from app.sampling.engine import Completion, Request

BODIES = 4096  # different solutions; their lines are drawn anew for each, so few lines repeat
NAMES = ("Natalia", "Weng", "Betty", "Julie", "James", "Mark", "Albert", "Ken", "Alexis", "Tina", "Randy", "Joy")
THINGS = ("clips", "dollars", "pages", "letters", "flowers", "slices", "pounds", "apples", "miles", "tickets")
LINES = (
    "{name} has {a} + {b} = <<{a}+{b}={c}>>{c} {thing} altogether.",
    "That leaves {c} - {b} = <<{c}-{b}={a}>>{a} {thing} for {name}.",
    "Each week {name} sells {a} * {d} = <<{a}*{d}={e}>>{e} {thing}, so the total comes to {e}.",
    "Since {e} / {d} = <<{e}/{d}={a}>>{a}, every one of them gets {a} {thing}.",
    "In the morning {name} buys {a} {thing}, and in the afternoon {b} more, which makes {a} + {b} = {c} {thing}.",
)
ENDS = (
    "#### {answer}",
    "#### {answer}",
    "#### {answer}",
    "The answer is {answer}.",
    "So the answer is \\boxed{{{answer}}}.",
)
PIECES = re.compile(r"\d|\w+|[^\w\s]|\n")


def problems(count: int) -> list[Problem]:
    """Training problems; the statement names the answer, so that a script can know it."""
    return [
        Problem(f"p-{n:08d}", f"{NAMES[n % 12]} counts {THINGS[n % 10]}: what is {answer(n) + n} less {n}?",
                str(answer(n)), "train", "scripted")
        for n in range(count)
    ]  # fmt: skip


def answer(number: int) -> int:
    return number * 7919 % 9973


def prompt_ids(statement: str) -> list[int]:
    """The answer, then one token a piece of the statement."""
    pieces = statement.split()
    return [int(pieces[-3]) - int(pieces[-1][:-1]), *(40 + len(piece) for piece in pieces), *range(60)]


def script(request: Request) -> Completion:
    """One of the bodies with an ending of its own, as the seed says."""
    text, ids = bodies()[request.seed % BODIES]
    wrong = (request.seed >> 12) % 4 == 0
    told = request.prompt_token_ids[0] + wrong * (1 + (request.seed >> 14) % 9)
    end = ENDS[(request.seed >> 18) % len(ENDS)].format(answer=told)
    return Completion((*ids, 17, 18, 19, *(100 + ord(digit) for digit in str(told)), 2), text + end, "stop")


@functools.cache
def bodies() -> list[tuple[str, tuple[int, ...]]]:
    """Solutions without their last line, and their token ids."""
    draw = random.Random(0)
    ids: dict[str, int] = {}
    found = []
    for _ in range(BODIES):
        lines = []
        for _ in range(draw.choice((2, 2, 3, 3, 3, 4, 4, 5, 6, 8))):
            a, b, d = draw.randrange(2, 400), draw.randrange(2, 90), draw.randrange(2, 12)
            words = {"name": draw.choice(NAMES), "thing": draw.choice(THINGS)}
            lines.append(draw.choice(LINES).format(a=a, b=b, c=a + b, d=d, e=a * d, **words))
        text = "\n".join([*lines, ""])
        found.append((text, tuple(ids.setdefault(piece, 200 + len(ids)) for piece in PIECES.findall(text))))
    return found
