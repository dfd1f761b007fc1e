"""Evaluation problems to plant among new ones, each changed in one named way; None where nothing can change."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+\b")  # a capital inside a sentence
NO_NAMES = frozenset(
    ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "December", "Christmas")
)
OTHERS = ("Farida", "Oskar", "Nilufar", "Bartek", "Ximena", "Tadeo", "Signe", "Kwame", "Ottilie", "Ravi")
SENTENCE = re.compile(r"(?<=[.?!])\s+")


def exact(text: str, rng: random.Random) -> str:
    """In other case, spacing and punctuation."""
    return "  ".join(text.upper().rstrip("?.!").split()) + rng.choice((" ?", " .", " !"))


def renamed(text: str, rng: random.Random) -> str | None:
    """Everybody has another name."""
    names = sorted({*NAME.findall(text)} - NO_NAMES)
    if not names:
        return None
    others = rng.sample(OTHERS, min(len(names), len(OTHERS)))
    given = dict(zip(names, others, strict=False))
    return re.sub(r"\b[A-Z][a-z]+\b", lambda found: given.get(found[0], found[0]), text)


def reordered(text: str, rng: random.Random) -> str | None:
    """The sentences before the last in another order."""
    *told, asked = SENTENCE.split(text)
    if len(set(told)) < 2:
        return None
    order = list(told)
    while order == told:
        rng.shuffle(order)
    return " ".join([*order, asked])


def renumbered(text: str, rng: random.Random) -> str | None:
    """Every whole number is another one."""
    changed = re.sub(r"\d+", lambda found: str(int(found[0]) + rng.randint(1, 9)), text)
    return None if changed == text else changed


def retold(text: str, rng: random.Random) -> str | None:
    """Other names and other numbers."""
    changed = renamed(text, rng)
    return None if changed is None else renumbered(changed, rng)


KINDS: dict[str, Callable[[str, random.Random], str | None]] = {
    "exact": exact,
    "renamed": renamed,
    "reordered": reordered,
    "numbers changed": renumbered,
    "names and numbers changed": retold,
}
