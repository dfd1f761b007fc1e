"""What is measured on held-out problems."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.settings import Settings


class EvaluationSettings(Settings):
    """Greedy accuracy of base and of every trained method; pass@k and maj@k from `samples` draws where samples > 0."""

    split: Literal["test", "validation"] = "test"  # which held-out problems
    samples: int = Field(default=0, ge=0, le=1000)  # drawn a problem, besides the greedy one
    temperature: float = Field(default=0.7, gt=0)  # of the samples; the greedy one has none
    max_tokens: int = Field(default=512, ge=1)  # of one answer
    problems_per_shard: int = Field(default=64, ge=1)  # problems of one file
