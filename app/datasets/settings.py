"""Which traces become training data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.settings import Settings


class SftSettings(Settings):
    """The teacher's solutions, all of them."""


class RftSettings(Settings):
    """`drop_wrong_sums`, `drop_lucky_wrong` and `max_no_progress` leave out right traces whose reasoning is in doubt:
    docs/credit.md, Right traces.
    """

    per_problem: int = Field(default=4, ge=1)  # most distinct correct traces kept a problem
    teacher: bool = True  # the teacher's solutions stay in the set
    drop_wrong_sums: bool = False  # traces in which a written sum is wrong; needs no credit
    drop_lucky_wrong: bool = False  # traces whose value fell for certain at a step; credit.correct_traces of them known
    mixed_only: bool = False  # leave out problems whose samples are all right: they teach nothing new
    max_no_progress: float = Field(default=1, ge=0, le=1)  # largest share of valued steps that brought nothing

    @property
    def needs_credit(self) -> bool:
        return self.drop_lucky_wrong or self.max_no_progress < 1


class DpoSettings(Settings):
    """A right against a wrong trace of one problem."""

    per_problem: int = Field(default=2, ge=1)  # most pairs of one problem


class StepDpoSettings(Settings):
    """The two readings of the paper, and which continuation is preferred: docs/credit.md, Pairs."""

    reading: Literal["shared-prefix", "full-solution"] = "shared-prefix"  # pairs parted at the pit, or whole solutions
    rejected: Literal["step", "rest"] = "rest"  # the pit step alone, or the failing trace to its end
    chosen: Literal["shortest", "first", "likeliest", "advantage"] = "shortest"  # which right continuation is preferred
    per_pit: int = Field(default=1, ge=1)  # most pairs that share one pit
    per_problem: int = Field(default=4, ge=1)  # most pairs of one problem
    min_q_before: float = Field(default=0.25, ge=0, le=1)  # value there must be to lose
    min_confidence: float = Field(default=0, ge=0, lt=1)  # how sure credit must be of the pit


class AdvantageSftSettings(Settings):
    """The policy's own steps that brought something: docs/credit.md, Steps to imitate."""

    min_advantage: float = Field(default=0.05, ge=-1, le=1)  # least gain in Q of a step
    completion: Literal["step", "rest"] = "step"  # the step alone, or with a right way on from it


class AdvantageNllSettings(AdvantageSftSettings):
    """The same, each step as heavy as its advantage."""

    min_advantage: float = Field(default=0.05, gt=0, le=1)


class LabelledTracesSettings(Settings):
    """The policy's own finished traces with their verdicts."""

    per_problem: int = Field(default=4, ge=1)  # most right and most wrong ones of a problem, each distinct


class LabelledStepsSettings(Settings):
    """Steps that are right or wrong, of the traces that credit looked at: docs/credit.md, Right and wrong steps."""


class PrmSettings(Settings):
    """Step labels for process reward models."""

    right_traces: bool = True  # also those of right traces that credit looked at
