"""What a run is: one validated YAML file. All but `placement`, `prices` and `verification` decides results and enters
stage keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator

from app.credit.settings import CreditSettings
from app.datasets.settings import DatasetsSettings
from app.errors import UserError, nearest
from app.evaluation.settings import EvaluationSettings
from app.placement import ActorPlacement
from app.problems.settings import ProblemsSettings, SynthesisSettings
from app.sampling.settings import EnginePlacement, SamplingSettings
from app.settings import ModelSettings, Prices, Settings
from app.training.settings import TrainingSettings, TrainPlacement
from app.verification.settings import VerificationSettings

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class RenderingSettings(Settings):
    """How a problem becomes a prompt: the model's chat template, or plain text."""

    template: Literal["plain", "chat"] = "plain"
    prompt: str = "{statement}\n"
    system: str | None = None

    @field_validator("prompt")
    @classmethod
    def _has_statement(cls, value: str) -> str:
        if "{statement}" not in value:
            raise ValueError("must contain {statement}")
        return value


class Placement(Settings):
    """Where and how wide stages run. Never changes results or keys."""

    sampling: EnginePlacement = EnginePlacement()
    verification: ActorPlacement = ActorPlacement()
    training: TrainPlacement = TrainPlacement()
    concurrent_stages: int = Field(default=1, ge=1)


class Recipe(Settings):
    """A whole run."""

    name: str = Field(pattern=NAME)
    seed: int = 0
    model: ModelSettings = ModelSettings()
    rendering: RenderingSettings = RenderingSettings()
    problems: ProblemsSettings
    synthesis: SynthesisSettings | None = None
    sampling: SamplingSettings | None = None
    verification: VerificationSettings = VerificationSettings()
    credit: CreditSettings | None = None
    datasets: DatasetsSettings = DatasetsSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    placement: Placement = Placement()
    prices: Prices | None = None  # for costs in the report and the status


def load(path: str, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe file, apply `key=value` overrides, validate. Raises UserError with every fault on its own line."""
    file = Path(path)
    if not file.is_file():
        folder = file.parent if file.parent.is_dir() else Path("jobs/recipes")
        raise UserError(f"{path}: no such recipe file{nearest(file.name, [p.name for p in folder.glob('*.yaml')])}")
    try:
        body = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(body, dict):
        raise UserError(f"{path}: a recipe is a mapping of keys, this is {type(body).__name__}")
    for override in overrides or []:
        _apply(body, override)
    try:
        recipe = Recipe.model_validate(body)
    except ValidationError as error:
        raise UserError("\n".join(f"{path}: {line}" for line in _faults(error))) from None
    _check_files(path, recipe)
    _check_sets(path, recipe)
    return recipe


def _apply(body: dict[str, Any], override: str) -> None:
    """Set one dotted key of the raw mapping; the value is YAML."""
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override}: expected key=value, such as sampling.samples=4")
    *parents, last = key.split(".")
    for parent in parents:
        child = body.get(parent)
        if child is None:
            child = body[parent] = {}
        if not isinstance(child, dict):
            raise UserError(f"--set {override}: {parent} holds a value, not keys")
        body = child
    body[last] = yaml.safe_load(value)


def _faults(error: ValidationError) -> list[str]:
    lines = []
    for fault in error.errors():
        where = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            lines.append(f"{where}: unknown key{nearest(str(fault['loc'][-1]), _keys_at(fault['loc'][:-1]))}")
        else:
            got = "" if fault["type"] in ("missing", "value_error") else f" (got {fault['input']!r})"
            lines.append(f"{where}: {fault['msg'].removeprefix('Value error, ')}{got}")
    return lines


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """Valid keys of the model at a location of the recipe; a union's tag is part of a location."""
    models: list[type[BaseModel]] = [Recipe]
    for part in location:
        inner = [m for model in models for m in _models_in(model, str(part))]
        models = inner or [m for m in models if _tag(m) == part] or models
    return [name for model in models for name in model.model_fields]


def _tag(model: type[BaseModel]) -> Any:
    kind = model.model_fields.get("kind")
    return getattr(kind.annotation, "__args__", (None,))[0] if kind else None


def _models_in(model: type[BaseModel], field: str) -> list[type[BaseModel]]:
    info = model.model_fields.get(field)
    if info is None:
        return []
    found, queue = [], [info.annotation]
    while queue:
        kind = queue.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.append(kind)
        queue.extend(getattr(kind, "__args__", ()))
    return found


def _check_sets(path: str, recipe: Recipe) -> None:
    """What a recipe says of a data set is used: the set is built for a method that is trained."""
    for method in ("rft", "dpo", "step_dpo"):
        if method in recipe.datasets.model_fields_set and getattr(recipe.training, method) is None:
            raise UserError(f"{path}: datasets.{method}: nothing trains on it; add training.{method}, or remove it")


def _check_files(path: str, recipe: Recipe) -> None:
    """Files a recipe names must be there before anything starts; relative ones are relative to where the job runs."""
    source = recipe.problems.source
    if source.kind == "file":
        for field in ("train", "test", "validation"):
            name = getattr(source, field)
            if name and "://" not in name and not Path(name).is_file():
                raise UserError(f"{path}: problems.source.{field}: no such file: {name}")
