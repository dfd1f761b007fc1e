"""The base of every part of a recipe: typed, frozen, and an unknown key is an error."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from app.errors import UserError, nearest


class Settings(BaseModel):
    """A part of a recipe. Each folder keeps its own in settings.py; app/recipe.py puts them together."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class ModelSettings(Settings):
    """The base policy: `world` (shipped with eightfold), a folder, or a hub name."""

    path: str = "world"  # world, a folder, or a hub name such as Qwen/Qwen3-0.6B
    revision: str | None = None  # branch, tag or commit on the hub; none: main
    trust_remote_code: bool = False  # run Python code that comes with the model


TemplateArguments = dict[str, bool | int | float | str]


class Shot(Settings):
    """A solved problem."""

    statement: str  # as a problem's
    solution: str  # as it is to be written, the form of its answer included


class RenderingSettings(Settings):
    """How a problem becomes a prompt: the model's chat template, or plain text."""

    template: Literal["plain", "chat"] = "plain"  # chat: the model's own chat template around the prompt
    prompt: str = "{statement}\n"  # what the model is asked; {statement} is the problem
    system: str | None = None  # what stands before all else; chat: the system message
    few_shot: tuple[Shot, ...] = ()  # solved problems that every prompt begins with; chat: as earlier turns
    template_arguments: TemplateArguments = Field(default_factory=dict)  # of the chat template: enable_thinking: false

    @model_validator(mode="after")
    def _arguments_have_a_template(self) -> RenderingSettings:
        if self.template_arguments and self.template == "plain":
            raise ValueError("template_arguments: only with template: chat")
        return self

    @field_validator("prompt")
    @classmethod
    def _has_statement(cls, value: str) -> str:
        if "{statement}" not in value:
            raise ValueError("must contain {statement}")
        return value


class Rates(Settings):
    """What an hour of one resource costs on the nodes of a role; None: what it costs elsewhere."""

    cpu_hour: float | None = Field(default=None, ge=0)  # a vCPU, as Ray counts CPUs
    gpu_hour: float | None = Field(default=None, ge=0)  # a whole GPU


class Prices(Settings):
    """Prices of a cluster, for costs in the report and the status. Decide no result and enter no key but the report's.

    A role is a node type of cluster.yaml, named where it costs something else. app/cost.py has the formula.
    """

    currency: str = Field(default="USD", min_length=1, max_length=8)  # its name in tables
    cpu_hour: float = Field(default=0, ge=0)  # of a vCPU, as Ray counts CPUs
    gpu_hour: float = Field(default=0, ge=0)  # of a whole GPU
    budget: float | None = Field(default=None, gt=0)  # what a run may cost, all its sessions together: then it stops
    sampler: Rates = Rates()
    verifier: Rates = Rates()
    trainer: Rates = Rates()


RENAMED = {  # keys of recipes, by the names they had
    "until": "stopping",
    "clip": "max_grad_norm",
    "nll": "rpo_alpha",
    "label_noise": "label_smoothing",
    "target_margin": "simpo_gamma",
    "fall_penalty": "dpop_lambda",
    "zero": "zero_stage",
    "boards": "trackers",
}


def read_mapping(file: Path, what: str) -> dict[str, Any]:
    """The mapping that a YAML file holds, `what` being `a recipe` or so. Raises UserError where it holds none."""
    try:
        body = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not valid YAML: {error}") from error
    if not isinstance(body, dict):
        raise UserError(f"{file}: {what} is a mapping of keys, this is {type(body).__name__}")
    return body


def fault_lines(error: ValidationError, model: type[BaseModel], where: str = "") -> list[str]:
    """Every fault of a part of a recipe on a line of its own: its key below `where`, and what is wrong or valid."""
    lines = []
    for fault in error.errors():
        key = ".".join([where] * bool(where) + [str(part) for part in fault["loc"]])
        if fault["type"] == "extra_forbidden":
            lines.append(f"{key}: {unknown(str(fault['loc'][-1]), _keys_at(model, fault['loc'][:-1]))}")
        else:
            got = "" if fault["type"] in ("missing", "value_error") else f" (got {fault['input']!r})"
            lines.append(f"{key}: {fault['msg'].removeprefix('Value error, ')}{got}")
    return lines


def unknown(name: str, keys: Collection[str], why: str = "unknown key") -> str:
    """What to say of a key that is not one of `keys`."""
    if RENAMED.get(name) in keys:
        return f"is now called {RENAMED[name]}"
    return why + nearest(name, keys)


def _keys_at(root: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Valid keys of the model at a location; a union's tag is part of a location."""
    models: list[type[BaseModel]] = [root]
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
