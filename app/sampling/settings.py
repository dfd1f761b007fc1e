"""What is asked of the policy, and where the engines run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

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
    gpus: float = Field(default=0, ge=0)  # per actor; above 1 = tensor parallel
    max_num_seqs: int = Field(default=256, ge=1)
    concurrent_shards: int = Field(default=8, ge=1)  # shards in flight an actor
    kv_cache_gib: float = Field(default=1, gt=0)  # CPU only
    gpu_memory: float = Field(default=0.9, gt=0, le=1)  # GPU only: share of memory the engine takes
    threads: int | None = None  # CPU only: OpenMP threads; None = cpus
    enforce_eager: bool = False
    max_model_len: int | None = None
    dtype: str = "auto"
