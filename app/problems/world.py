"""The grade-school world: unlimited word problems about a running total, with a teacher who solves them.

Somebody has some things; events add, take, double, triple or halve them; distractors state facts that do not matter.
All is drawn from seeds in plain Python, so problem (seed, index) is the same everywhere. The split of a problem follows
from its arithmetic alone (start and events), so no two splits share a problem, not even in other words.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

from app.errors import UserError
from app.problems import world_text as text
from app.records import Problem, digest, seed_from

SPLITS = ("train", "validation", "test")
LARGEST = text.NUMBERS - 1
OPERATORS = {"+": 0.42, "-": 0.42, "*": 0.08, "/": 0.08}
FACTORS = (2, 2, 3)  # doubling is commoner than tripling
SENTENCES = {("*", 2): text.DOUBLE, ("*", 3): text.TRIPLE, ("/", 2): text.HALVE}


@dataclass(frozen=True, slots=True)
class Event:
    """One change of the running total: `total op amount`."""

    op: str  # + - * /
    amount: int

    def apply(self, total: int) -> int:
        """The total afterwards. Division is exact by construction."""
        if self.op == "+":
            return total + self.amount
        if self.op == "-":
            return total - self.amount
        return total * self.amount if self.op == "*" else total // self.amount


@dataclass(frozen=True, slots=True)
class Story:
    """What happens in a problem: all its answer depends on."""

    start: int
    events: tuple[Event, ...]

    @property
    def totals(self) -> list[int]:
        """The running total after 0, 1, ... events."""
        out = [self.start]
        for event in self.events:
            out.append(event.apply(out[-1]))
        return out

    @property
    def split(self) -> str:
        """train (8 in 10), validation (1) or test (1), by content."""
        bucket = seed_from("world-split", self.start, self.as_lists()) % 10
        return SPLITS[max(0, bucket - 7)]

    def as_lists(self) -> list[list[str | int]]:
        return [[e.op, e.amount] for e in self.events]

    @staticmethod
    def of(problem: Problem) -> Story:
        """The story hidden in a world problem's `meta`."""
        hidden = json.loads(problem.meta)
        if "events" not in hidden:
            raise UserError(f"problem {problem.id}: not of the grade-school world (its meta holds no events)")
        return Story(hidden["start"], tuple(Event(op, amount) for op, amount in hidden["events"]))


@dataclass(frozen=True, slots=True)
class World:
    """A level of difficulty: how many events a story has, how many distractors, how large its numbers are."""

    operations: tuple[int, int] = (4, 6)
    distractors: tuple[int, int] = (0, 2)
    amounts: tuple[int, int] = (2, 20)

    def __post_init__(self) -> None:
        for name, least in (("operations", 1), ("distractors", 0), ("amounts", 1)):
            low, high = getattr(self, name)
            if not least <= low <= high:
                raise UserError(f"world.{name} = ({low}, {high}): give (lowest, highest), lowest at least {least}")
        if self.amounts[1] > LARGEST // 2:
            raise UserError(
                f"world.amounts = {self.amounts}: the highest may be {LARGEST // 2}, totals end at {LARGEST}"
            )

    def problem(self, seed: int, index: int, teacher: Teacher | None = None) -> Problem:
        """Problem `index` of the stream `seed`, solved by the teacher (by default one operation a line)."""
        rng = random.Random(f"world-{seed}-{index}")
        story = self._story(rng)
        statement = _tell(story, rng, rng.randint(*self.distractors))
        total = story.totals[-1]
        return Problem(
            id="p-" + digest("world", statement),
            statement=statement,
            answer=str(total),
            split=story.split,
            source="world",
            solution=(teacher or CAREFUL).solve(story, seed_from("teacher", statement)),
            meta=json.dumps({"start": story.start, "events": story.as_lists()}),
        )

    def _story(self, rng: random.Random) -> Story:
        total = start = rng.randint(5, 60)
        events: list[Event] = []
        for _ in range(rng.randint(*self.operations)):
            events.append(self._event(rng, total))
            total = events[-1].apply(total)
        return Story(start, tuple(events))

    def _event(self, rng: random.Random, total: int) -> Event:
        """An event that keeps the total within 1 to LARGEST; the loop ends since + or - always fits somewhere."""
        low, high = self.amounts
        while True:
            op = rng.choices(list(OPERATORS), list(OPERATORS.values()))[0]
            amount = rng.choice(FACTORS) if op == "*" else 2 if op == "/" else rng.randint(low, high)
            event = Event(op, amount)
            if 1 <= event.apply(total) <= LARGEST and (op != "/" or total % 2 == 0):
                return event


@dataclass(frozen=True, slots=True)
class Teacher:
    """A capable but human solver. With probability `careful` it writes one operation a line throughout; otherwise each
    line holds 1, 2 or 3 operations in proportion to `merge`. Always right; merged lines are harder to imitate.
    """

    careful: float = 0.3
    merge: tuple[float, float, float] = (0.2, 0.5, 0.3)

    def __post_init__(self) -> None:
        if not 0 <= self.careful <= 1 or min(self.merge) < 0 or sum(self.merge) <= 0:
            raise UserError(
                f"teacher: careful = {self.careful} must be in 0 to 1, merge = {self.merge} weights of 1, 2, 3"
            )

    def solve(self, story: Story, seed: int) -> str:
        """A solution: lines like `12 + 7 = 19`, the last one `#### 19`."""
        rng = random.Random(f"teacher-{seed}")
        careful = rng.random() < self.careful
        lines, totals, done = [], story.totals, 0
        while done < len(story.events):
            size = 1 if careful else rng.choices((1, 2, 3), self.merge)[0]
            taken = _mergeable(story.events[done : done + size])
            terms = "".join(f" {e.op} {e.amount}" for e in story.events[done : done + taken])
            lines.append(f"{totals[done]}{terms} = {totals[done + taken]}")
            done += taken
        return "\n".join([*lines, f"#### {totals[-1]}"])


CAREFUL = Teacher(careful=1.0)


def make_problems(
    seed: int, count: int, split: str, world: World | None = None, teacher: Teacher | None = None
) -> list[Problem]:
    """The first `count` problems of a stream that fall into `split`, no two with the same story."""
    return list(each_problem(seed, count, split, world, teacher))


def each_problem(
    seed: int, count: int, split: str, world: World | None = None, teacher: Teacher | None = None
) -> Iterator[Problem]:
    """The same, one at a time: 12 bytes are kept of each to know its story again."""
    if split not in SPLITS:
        raise UserError(f"split {split!r}: one of {', '.join(SPLITS)}")
    world = world or World()
    seen: set[bytes] = set()
    index = misses = 0
    while len(seen) < count:
        problem = world.problem(seed, index, teacher)
        index += 1
        story = hashlib.blake2b(problem.meta.encode(), digest_size=12).digest()
        if problem.split == split and story not in seen:
            seen.add(story)
            yield problem
            misses = 0
        elif (misses := misses + 1) > 10_000:
            raise UserError(f"the world holds too few {split} problems at {world}: {len(seen)} of {count} found")


def _mergeable(events: tuple[Event, ...]) -> int:
    """How many of the events one line can hold: after the first only + and -, so that precedence does not matter."""
    taken = 1
    while taken < len(events) and events[taken].op in "+-":
        taken += 1
    return taken


def _tell(story: Story, rng: random.Random, distractors: int) -> str:
    """The story in words. The thing is named after a distractor, so that no sentence is ambiguous."""
    name, other = rng.sample(text.GIRLS + text.BOYS, 2)
    thing, another = rng.sample(text.THINGS, 2)
    fields = text.subject(name) | {"thing": thing, "else": another}
    places = sorted(rng.randint(0, len(story.events)) for _ in range(distractors))
    said = [rng.choice(text.START).format(**fields, n=story.start)]
    for k in range(len(story.events) + 1):
        for _ in range(places.count(k)):
            amount = rng.randint(2, 20)
            said.append(rng.choice(text.DISTRACTORS).format(**fields, other=other, n=amount))
        if k == len(story.events):
            break
        item = f" {thing}" if k in places or rng.random() < 0.5 else ""
        event = story.events[k]
        said.append(_sentences(event, thing, rng).format(**fields, other=other, n=event.amount, i=item))
    said.append(rng.choice(text.QUESTIONS).format(**fields))
    return " ".join(said)


def _sentences(event: Event, thing: str, rng: random.Random) -> str:
    """A template that tells the event."""
    if event.op == "+":
        return rng.choice(text.PLUS)
    if event.op == "-":
        return rng.choice(text.MINUS + (text.EATEN if thing in text.FOOD else ()))
    return rng.choice(SENTENCES[event.op, event.amount])
