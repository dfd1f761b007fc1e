"""The base of every part of a recipe: typed, frozen, and an unknown key is an error."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """A part of a recipe. Each folder keeps its own in settings.py; app/recipe.py puts them together."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class ModelSettings(Settings):
    """The base policy: `world` (shipped with eightfold), a folder, or a hub name."""

    path: str = "world"
    revision: str | None = None
    trust_remote_code: bool = False


class Rates(Settings):
    """What an hour of one resource costs on the nodes of a role; None: what it costs elsewhere."""

    cpu_hour: float | None = Field(default=None, ge=0)  # a vCPU, as Ray counts CPUs
    gpu_hour: float | None = Field(default=None, ge=0)


class Prices(Settings):
    """Prices of a cluster, for costs in the report and the status. Decide no result and enter no key but the report's.

    A role is a node type of cluster.yaml, named where it costs something else. app/cost.py has the formula.
    """

    currency: str = Field(default="USD", min_length=1, max_length=8)
    cpu_hour: float = Field(default=0, ge=0)
    gpu_hour: float = Field(default=0, ge=0)
    sampler: Rates = Rates()
    verifier: Rates = Rates()
    trainer: Rates = Rates()
