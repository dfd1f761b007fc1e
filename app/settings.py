"""The base of every part of a recipe: typed, frozen, and an unknown key is an error."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A part of a recipe. Each folder keeps its own in settings.py; app/recipe.py puts them together."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class ModelSettings(Settings):
    """The base policy: `world` (shipped with eightfold), a folder, or a hub name."""

    path: str = "world"
    revision: str | None = None
    trust_remote_code: bool = False
