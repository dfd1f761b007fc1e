"""How step values are found."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from app.settings import Settings

PITS = {  # rule -> the searches that know enough for it, and what that is
    "adaptive": (("adaptive",), "is the belief that search: adaptive keeps"),
    "lowest": (("exhaustive",), "needs the value of every step"),
    "zero_of_k": (("sequential", "exhaustive"), "needs K rollouts after one step after the other"),
}


class CreditSettings(Settings):
    """Monte-Carlo rollouts from step prefixes of wrong traces, and of right ones where asked for."""

    traces_per_problem: int = Field(default=4, ge=1)  # wrong traces looked at
    correct_traces: int = Field(default=0, ge=0)  # right traces looked at: every step, `rollouts` each
    # where a trace is cut into steps (docs/credit.md)
    steps: Literal["lines", "blocks", "headings", "sentences"] = "lines"
    most_steps: int | None = Field(default=None, ge=1)  # neighbours are merged until so many are left
    # how the first pit is looked for (docs/credit.md)
    search: Literal["adaptive", "binary", "sequential", "exhaustive"] = "adaptive"
    pit: Literal["adaptive", "lowest", "zero_of_k"] | None = None  # rule that must name the first pit
    rollouts: int = Field(default=8, ge=1)  # K a prefix; adaptive: at most so many a step of a trace, taken together
    confidence: float = Field(default=0.7, gt=0.5, lt=1)  # adaptive: probability of one step at which it stops
    continuations: int = Field(default=1, ge=0)  # adaptive: right rollouts from before the pit it does not stop without
    sums: bool = True  # adaptive: a wrong sum written in a step is evidence that this step is the pit
    best_of: int = Field(default=1, ge=1)  # Q of the policy that takes the best of so many rollouts (the paper: 5)
    temperature: float = Field(default=1.0, ge=0)  # of rollouts
    max_tokens: int = Field(default=512, ge=1)  # of one rollout

    @model_validator(mode="after")
    def _the_search_knows_enough(self) -> CreditSettings:
        searches, why = PITS.get(self.pit or "", ((self.search,), ""))
        if self.search not in searches:
            raise ValueError(f"pit: {self.pit} {why}; give search: {', '.join(searches)} (now {self.search})")
        return self

    def deciding(self) -> dict[str, Any]:
        """The settings as part of a key. The search alone decides; `pit` says what of it the recipe counts on."""
        return self.model_dump(mode="json", exclude={"pit"})
