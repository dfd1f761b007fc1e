"""What a run is: one validated YAML file. All but `placement`, `prices` and `verification` decides results and enters
stage keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from app.credit.settings import CreditSettings
from app.errors import UserError, nearest
from app.evaluation.settings import EvaluationSettings
from app.methods import load_plugins
from app.placement import ActorPlacement
from app.problems.settings import ProblemsSettings, SynthesisSettings
from app.runs import Run, merged, read_runs
from app.sampling.settings import EnginePlacement, SamplingSettings
from app.settings import ModelSettings, Prices, RenderingSettings, Settings, fault_lines, read_mapping
from app.training.settings import TrainPlacement
from app.verification.settings import VerificationSettings

EngineRole = Literal["sampling", "writer", "evaluation"]
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class Placement(Settings):
    """Where and how wide stages run. Changes no results, and no keys but by what engines cut at and their numbers."""

    sampling: EnginePlacement = EnginePlacement()
    writer: EnginePlacement | None = None  # of new problems; none: as sampling
    evaluation: EnginePlacement | None = None  # of held-out problems, beside training too; none: as sampling
    verification: ActorPlacement = ActorPlacement()
    training: TrainPlacement = TrainPlacement()
    concurrent_stages: int = Field(default=1, ge=1)  # stages that run side by side, where neither needs the other
    gpu_gib: float | None = Field(default=None, gt=0)  # memory of one GPU: `--plan` says what fits it

    def engines(self, role: EngineRole) -> EnginePlacement:
        """Where the engines of a role run."""
        own: EnginePlacement | None = getattr(self, role)
        return self.sampling if own is None else own

    def named(self, role: EngineRole) -> str:
        """The key of the recipe that says so, for messages."""
        return "placement.sampling" if getattr(self, role) is None else f"placement.{role}"


class PolicyChange(Settings):
    """What is asked otherwise of one policy: settings of `sampling` and `credit` that differ from the recipe's."""

    sampling: dict[str, Any] = Field(default_factory=dict)  # keys of `sampling`, with other values
    credit: dict[str, Any] = Field(default_factory=dict)  # keys of `credit`, with other values


class Recipe(Settings):
    """A whole run."""

    name: str = Field(pattern=NAME)  # of the run: its folder under --runs
    seed: int = 0  # of everything drawn: problems, samples, rollouts, order of training
    plugins: tuple[str, ...] = ()  # modules that register methods, imported first
    model: ModelSettings = ModelSettings()
    models: dict[str, ModelSettings] = Field(default_factory=dict)  # more starts, by names of the recipe's own
    rendering: RenderingSettings = RenderingSettings()
    problems: ProblemsSettings
    synthesis: SynthesisSettings | None = None
    sampling: SamplingSettings | None = None
    verification: VerificationSettings = VerificationSettings()
    credit: CreditSettings | None = None
    policies: dict[str, PolicyChange] = Field(default_factory=dict)  # by name of the policy that is sampled
    training: dict[str, Any] = Field(default_factory=dict)  # defaults of all runs' training settings
    runs: dict[str, dict[str, Any]] = Field(
        default_factory=dict
    )  # what is made and trained, by names of your own: below
    evaluation: EvaluationSettings = EvaluationSettings()
    placement: Placement = Placement()
    prices: Prices | None = None  # for costs in the report and the status

    def trained(self) -> dict[str, Run]:
        """The runs with all their settings, each after those it needs. Raises UserError with every fault."""
        return read_runs(self.runs, self.training)

    def asked_of(self, policy: str, more: Mapping[str, Mapping[str, Any]] | None = None) -> Recipe:
        """The recipe as the stages of one policy see it: `policies` applied to `sampling` and `credit`, then `more`."""
        change = self.policies.get(policy, PolicyChange())
        update: dict[str, Any] = {}
        for part in ("sampling", "credit"):
            changes = {**getattr(change, part), **(more or {}).get(part, {})}
            settings = getattr(self, part)
            if changes and settings is None:
                raise UserError(f"policies.{policy}.{part}: the recipe has no {part}; add that part")
            if "problems_per_shard" in changes:
                raise UserError(f"policies.{policy}.{part}.problems_per_shard: the same for all policies; set {part}'s")
            if changes:
                update[part] = merged(settings, changes, f"policies.{policy}.{part}")
        return self.model_copy(update=update) if update else self


def load(path: str, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe file, apply `key=value` overrides, validate. Raises UserError with every fault on its own line."""
    recipe = made(read(path), overrides or [], path)
    _check_files(path, recipe)
    return recipe


def made(body: dict[str, Any], overrides: Sequence[str], path: str) -> Recipe:
    """The same of a mapping, which the overrides change; `path` stands before each fault."""
    body = _included(body)
    for override in overrides:
        _apply(body, override)
        body = _included(body)
    try:
        refuse_moved(body)
        recipe = Recipe.model_validate(body)
        load_plugins(recipe.plugins)
        check_runs(recipe)
    except ValidationError as error:
        raise UserError("\n".join(f"{path}: {line}" for line in fault_lines(error, Recipe))) from None
    except UserError as error:
        raise UserError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None
    return recipe


def read(path: str) -> dict[str, Any]:
    """The mapping that a recipe file holds. Raises UserError where it holds none."""
    file = Path(path)
    if not file.is_file():
        near = [p.name for p in file.parent.glob("*.yaml") if re.search(r"^problems:", p.read_text(), re.MULTILINE)]
        raise UserError(f"{path}: no such recipe file{nearest(file.name, near) if near else ''}")
    return read_mapping(file, "a recipe")


def _included(body: dict[str, Any]) -> dict[str, Any]:
    """With the placement of another file in its place, where `placement` names one, as jobs.tune writes it."""
    named = body.get("placement")
    return body | {"placement": read(named)} if isinstance(named, str) else body


def overridden(override: str) -> tuple[str, Any]:
    """The dotted key and the value of `key=value`; the value is YAML. Raises UserError where it is not of that form."""
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override}: expected key=value, such as sampling.samples=4")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"--set {override}: the value is no YAML: {getattr(error, 'problem', error)}") from None


def _apply(body: dict[str, Any], override: str) -> None:
    """Set one dotted key of the raw mapping."""
    key, value = overridden(override)
    *parents, last = key.split(".")
    for parent in parents:
        child = body.get(parent)
        if child is None:
            child = body[parent] = {}
        if not isinstance(child, dict):
            raise UserError(f"--set {override}: {parent} holds a value, not keys")
        body = child
    body[last] = value


OLD_METHODS = ("sft", "rft", "dpo", "step_dpo")


def refuse_moved(body: Mapping[str, Any]) -> None:
    """Raise UserError where a recipe has keys of the form before named runs, with where each is now."""
    lines = []
    for name in OLD_METHODS:
        if isinstance(body.get("training"), dict) and isinstance(body["training"].get(name), dict):
            lines.append(f"training.{name}: moved to runs.{name}, with method: {name}")
    for name in body["datasets"] if isinstance(body.get("datasets"), dict) else ():
        now = f"runs.{name}, with method: {name}" if name in (*OLD_METHODS, "prm") else "runs"
        lines.append(f"datasets.{name}: moved to {now}; its settings stand beside those of training")
    if "datasets" in body and not lines:
        lines.append("datasets: moved to runs; its settings stand beside those of training")
    if isinstance(body.get("sampling"), dict) and "policy" in body["sampling"]:
        lines.append("sampling.policy: moved to runs.NAME.samples: each run says whose samples it learns from")
    if lines:
        raise UserError("\n".join(lines))


def check_runs(recipe: Recipe) -> None:
    """Runs, their starts and the policies they sample must be there. Raises UserError with every fault."""
    own = [("models", name) for name in recipe.models] + [("runs", name) for name in recipe.runs]
    for kind, name in own:
        if name == "base" or not re.match(NAME, name):
            raise UserError(f"{kind}.{name}: choose another name: letters, digits, . _ -, and not base")
    runs, faults = recipe.trained(), []
    policies = ["base", *recipe.models, *runs]
    faults += [f"runs.{name}: there is a model of that name; choose another" for name in runs if name in recipe.models]
    for run in runs.values():
        for field, names in (("init", [run.init]), ("samples", run.start.samples)):
            for name in names:
                if name not in policies or (name in runs and runs[name].training is None):
                    faults.append(f"runs.{run.name}.{field}: no such policy: {name}{nearest(name, policies)}")
        if run.method.training is None and (run.rounds or "init" in run.start.model_fields_set):
            faults.append(f"runs.{run.name}: {run.method.name} trains nothing, so it has no init and no rounds")
    faults += [
        f"policies.{name}: no such policy{nearest(name, policies)}" for name in recipe.policies if name not in policies
    ]
    if faults:
        raise UserError("\n".join(faults))


def _check_files(path: str, recipe: Recipe) -> None:
    """Files a recipe names must be there before anything starts; relative ones are relative to where the job runs."""
    source, named = recipe.problems.source, dict[str, str | None]()
    if source.kind == "file":
        named = {f"problems.source.{field}": getattr(source, field) for field in ("train", "test", "validation")}
    if recipe.synthesis:
        lists = recipe.synthesis.decontamination.lists
        named |= {f"synthesis.decontamination.lists.{name}": file for name, file in lists.items()}
    for field, name in named.items():
        if name and "://" not in name and not Path(name).is_file():
            raise UserError(f"{path}: {field}: no such file: {name}")
