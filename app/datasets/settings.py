"""Which traces become training data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.settings import Settings


class RftSettings(Settings):
    per_problem: int = Field(default=4, ge=1)  # most distinct correct traces kept a problem
    teacher: bool = True  # the teacher's solutions stay in the set


class DpoSettings(Settings):
    per_problem: int = Field(default=2, ge=1)


class StepDpoSettings(Settings):
    """The two readings of the paper: docs/credit.md, Pairs."""

    reading: Literal["shared-prefix", "full-solution"] = "shared-prefix"
    rejected: Literal["step", "rest"] = "rest"  # the pit step alone, or the failing trace to its end
    chosen: Literal["shortest", "first"] = "shortest"
    per_pit: int = Field(default=1, ge=1)  # most pairs that share one pit
    per_problem: int = Field(default=4, ge=1)
    min_q_before: float = Field(default=0.25, ge=0, le=1)  # value there must be to lose


class DatasetsSettings(Settings):
    rft: RftSettings = RftSettings()
    dpo: DpoSettings = DpoSettings()
    step_dpo: StepDpoSettings = StepDpoSettings()
