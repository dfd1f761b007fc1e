"""Colours of policies, on light and on dark pages: the method's where that is free, else the next of a palette."""

from __future__ import annotations

from collections.abc import Sequence

from app.methods import METHODS
from app.recipe import Recipe

Colour = tuple[str, str]  # on light, on dark

GREY: Colour = ("#7a7f88", "#9aa0aa")  # of models that the recipe was given
PALETTE: tuple[Colour, ...] = (
    ("#8f6a00", "#d9b23c"),
    ("#5b5fc7", "#a3a6f5"),
    ("#b0306a", "#f08ab8"),
    ("#3f7d20", "#8fd068"),
    ("#00808a", "#4fcad4"),
    ("#8a4b2a", "#d79a76"),
    ("#52616b", "#a8b6c0"),
    ("#9b2c2c", "#f29a94"),
)


def colours(recipe: Recipe, policies: Sequence[str]) -> dict[str, Colour]:
    """A colour a policy, in order. Runs of a method after its first, and rounds, take from the palette in turn."""
    runs, taken = recipe.trained(), set()
    found: dict[str, Colour] = {}
    number = 0
    for policy in policies:
        method = runs[policy].method if policy in runs else None
        if policy == "base" or policy in recipe.models:
            found[policy] = GREY
        elif method and any(method.colour) and method.name not in taken and method.name in METHODS:
            found[policy] = method.colour
            taken.add(method.name)
        else:
            found[policy] = PALETTE[number % len(PALETTE)]
            number += 1
    return found
