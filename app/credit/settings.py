"""How step values are found."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.settings import Settings


class CreditSettings(Settings):
    """Monte-Carlo rollouts from step prefixes of wrong traces, and of right ones where asked for."""

    traces_per_problem: int = Field(default=4, ge=1)  # wrong traces looked at
    correct_traces: int = Field(default=0, ge=0)  # right traces looked at: every step, `rollouts` each
    steps: Literal["lines", "blocks", "headings", "sentences"] = "lines"
    most_steps: int | None = Field(default=None, ge=1)  # neighbours are merged until so many are left
    search: Literal["adaptive", "binary", "exhaustive"] = "adaptive"
    rollouts: int = Field(default=8, ge=1)  # K a prefix; adaptive: at most so many a step of a trace, taken together
    confidence: float = Field(default=0.7, gt=0.5, lt=1)  # adaptive: probability of one step at which it stops
    continuations: int = Field(default=1, ge=0)  # adaptive: right rollouts from before the pit it does not stop without
    sums: bool = True  # adaptive: a wrong sum written in a step is evidence that this step is the pit
    best_of: int = Field(default=1, ge=1)  # Q of the policy that takes the best of so many rollouts (the paper: 5)
    temperature: float = Field(default=1.0, ge=0)
    max_tokens: int = Field(default=512, ge=1)
