"""What every pool of actors is asked to be: how many, how large, on which nodes. Never part of a key."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from app.settings import Settings

# Ray's own rules for names and values of labels, so that a slip is an error before anything starts.
_WORD = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_NAME = re.compile(rf"([a-z0-9.-]+/)?{_WORD}")
_VALUE = re.compile(rf"!?({_WORD}|in\({_WORD}(, ?{_WORD})*\))")


def _valid(labels: dict[str, str]) -> dict[str, str]:
    for name, value in labels.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"{name}: {value} is no label: give a word, !word, in(word, word) or !in(word, word)")
    return labels


Labels = Annotated[dict[str, str], AfterValidator(_valid)]  # only nodes that have them: role: sampler, market: "!spot"


class ActorPlacement(Settings):
    """A pool of actors. With `max_actors` it grows from `actors` while there is work and room, and shrinks again."""

    actors: int = Field(default=1, ge=1)  # at the start
    # the pool grows to so many while there is work; none: it stays as it is
    max_actors: int | None = Field(default=None, ge=1)
    cpus: float = Field(default=1, ge=0)  # an actor
    labels: Labels = Field(default_factory=dict)  # of nodes that may be used: role: sampler, market: "!spot"

    @model_validator(mode="after")
    def _grows(self) -> ActorPlacement:
        if self.max_actors is not None and self.max_actors < self.actors:
            raise ValueError(f"max_actors: must be at least actors ({self.actors})")
        return self
