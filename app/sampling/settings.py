"""What is asked of the policy, and where the engines run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from app.settings import Settings


class SamplingSettings(Settings):
    """`samples` traces a problem; they enter the stage's key."""

    policy: Literal["base", "sft"] = "sft"
    samples: int = Field(default=8, ge=1)
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=512, ge=1)
    problems_per_shard: int = Field(default=32, ge=1)


class EnginePlacement(Settings):
    """Engine actors: never part of a key."""

    actors: int = Field(default=1, ge=1)
    cpus: float = Field(default=1, ge=0)
    gpus: float = Field(default=0, ge=0)  # an actor; a fraction shares one GPU, above 1 = tensor parallel
    max_num_seqs: int = Field(default=256, ge=1)
    concurrent_shards: int = Field(default=8, ge=1)  # shards in flight an actor
    kv_cache_gib: float = Field(default=1, gt=0)  # CPU only
    gpu_memory: float = Field(default=0.9, gt=0, le=1)  # GPU only: share of memory the engine takes
    threads: int = Field(default=1, ge=1)  # CPU only: OpenMP threads; more than 1 needs as many idle cores
    enforce_eager: bool = True  # False compiles the model first: minutes that only a large or long job earns back
    max_model_len: int | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError("must be a whole number above 1 (tensor parallel), or at most 1 (a share of one GPU)")
        return value
