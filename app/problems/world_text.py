"""Words of the grade-school world: names, things, sentences, and the pieces its tokenizer knows.

A template's fields: P/p the subject's pronoun (She/she), o its object form (her), s its possessive (her), other a
second person, n a number, i the thing's name with a space before it or nothing, thing the name itself, else another
thing's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

GIRLS = ("Maya", "Anna", "Lily", "Rosa", "Emma", "Zoe", "Nina", "Sara", "Ivy", "Kate", "Mia", "Ella")
BOYS = ("Tom", "Ben", "Omar", "Leo", "Sam", "Jack", "Luis", "Noah", "Max", "Adam", "Finn", "Carl")
PRONOUNS = {**dict.fromkeys(GIRLS, ("She", "her", "her")), **dict.fromkeys(BOYS, ("He", "him", "his"))}

FOOD = ("apples", "pears", "cookies", "plums", "candies", "muffins", "nuts", "cherries")
TOYS = (
    "pens",
    "marbles",
    "stickers",
    "cards",
    "shells",
    "coins",
    "stamps",
    "books",
    "balls",
    "beads",
    "toys",
    "crayons",
)
THINGS = FOOD + TOYS

START = ("{name} has {n} {thing}.", "{name} starts with {n} {thing}.", "There are {n} {thing} in {name}'s box.")
PLUS = (
    "{P} buys {n} more{i}.",
    "{P} finds {n}{i}.",
    "{P} wins {n}{i}.",
    "{P} collects {n}{i}.",
    "{P} gets {n}{i} from {other}.",
    "{P} picks up {n}{i}.",
    "{other} gives {o} {n}{i}.",
    "{other} brings {o} {n}{i}.",
    "Then {p} earns {n}{i}.",
    "Then {p} adds {n} more{i}.",
)
MINUS = (
    "{P} gives {n}{i} to {other}.",
    "{P} loses {n}{i}.",
    "{P} sells {n}{i}.",
    "{P} drops {n}{i}.",
    "{P} gives away {n}{i}.",
    "{P} throws away {n}{i}.",
    "{other} takes {n}{i}.",
    "{other} borrows {n}{i}.",
    "Then {p} trades away {n}{i}.",
)
EATEN = ("{P} eats {n}{i}.", "Then {p} eats {n}{i}.", "{other} eats {n}{i}.")  # only of food
DOUBLE = ("{P} doubles {s} {thing}.", "The number of {thing} doubles.", "Then {p} doubles {s} {thing}.")
TRIPLE = ("{P} triples {s} {thing}.", "The number of {thing} triples.", "Then {p} triples {s} {thing}.")
HALVE = ("{P} sells half of {s} {thing}.", "{P} loses half of {s} {thing}.", "{P} gives {other} half of {s} {thing}.")
DISTRACTORS = (
    "{other} has {n} {thing}.",
    "{other} has {n} {else}.",
    "{other} finds {n} {else}.",
    "{other} buys {n} {else}.",
    "{P} sees {n} birds.",
    "{P} walks {n} miles.",
    "{P} reads {n} pages.",
    "{P} is {n} years old.",
    "{other} is {n} years old.",
    "It takes {n} minutes.",
)
QUESTIONS = (
    "How many {thing} does {name} have now?",
    "How many {thing} does {name} have in the end?",
    "How many {thing} are left?",
)
SENTENCES = START + PLUS + MINUS + EATEN + DOUBLE + TRIPLE + HALVE + DISTRACTORS + QUESTIONS

NUMBERS = 100  # 0 to 99, one token each
# A number or a line break is a piece of its own; a word takes the space before it and, before a number, the one after
# it too. So every number is the same token wherever it stands, and a text is the plain concatenation of its pieces.
PIECE = r"\d+|\n|[.?]| ?[^\s\d.?]+(?: (?=\d))?"


def pieces(text: str) -> list[str]:
    """The tokens of a text of the world; their concatenation is the text."""
    return re.findall(PIECE, text)


def wordings() -> Iterator[str]:
    """Texts that together hold every piece the world can write."""
    yield "\n".join(str(n) for n in range(NUMBERS))
    yield "0 + 0 - 0 * 0 / 0 = 0\n#### 0"
    people = GIRLS + BOYS
    for template in SENTENCES:
        for k in range(len(people)):
            fields = subject(people[k]) | {"other": people[k - 1], "n": 0}
            for thing in THINGS:
                for item in ("", f" {thing}"):
                    sentence = template.format(**fields, thing=thing, i=item, **{"else": thing})
                    yield f"{sentence}\n"
                    yield f". {sentence}\n"


def subject(name: str) -> dict[str, str]:
    """The template fields that depend on whom the problem is about."""
    pronoun, object_form, possessive = PRONOUNS[name]
    return {"name": name, "P": pronoun, "p": pronoun.lower(), "o": object_form, "s": possessive}


def vocabulary() -> list[str]:
    """Every piece of the world in a fixed order: numbers first, then the rest sorted."""
    rest = {piece for text in wordings() for piece in pieces(text)} - {str(n) for n in range(NUMBERS)}
    return [str(n) for n in range(NUMBERS)] + sorted(rest)
