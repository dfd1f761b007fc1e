"""Named runs: what is trained (or only collected), from which start, on whose samples, and in how many rounds.

    runs:
      sft: {method: sft, steps: 200}
      rft: {method: rft, samples: sft, per_problem: 4, steps: 200}
      more: {method: step_dpo, init: rft, beta: 0.1, steps: 60, rounds: 3}

A run gives the settings of its method's data set and of its training side by side; `training` of the recipe holds
defaults for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from app.errors import UserError
from app.methods import Method, find
from app.settings import Settings, fault_lines, unknown
from app.training.settings import PreferenceSettings, TrainSettings

BASE = "base"


class RoundChange(Settings):
    """What one round does otherwise: settings of sampling, of credit, and of the run itself."""

    sampling: dict[str, Any] = Field(default_factory=dict)  # keys of `sampling`, with other values
    credit: dict[str, Any] = Field(default_factory=dict)  # keys of `credit`, with other values
    run: dict[str, Any] = Field(default_factory=dict)  # keys of the run itself, with other values


class Rounds(Settings):
    """A chain: sample the newest policy, verify, credit, build, train; again."""

    count: int = Field(ge=1)  # most rounds; `rounds: 3` is short for it
    window: int | Literal["all"] = 1  # newest rounds whose samples a round learns from
    reference: Literal["start", "first"] = "start"  # of pairs: the policy a round starts from, or the chain's first
    gate: bool = True  # keep the best candidate on validation problems, the start among them; end where it is the start
    schedule: tuple[RoundChange, ...] = ()  # by round, the last for all that follow

    @field_validator("window")
    @classmethod
    def _at_least_one(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be at least 1, or all")
        return value

    def change(self, number: int) -> RoundChange:
        """What round `number`, from 1, does otherwise."""
        return self.schedule[min(number, len(self.schedule)) - 1] if self.schedule else RoundChange()


class Start(Settings):
    """The part of a run that its method does not know."""

    method: str  # sft, rft, dpo, step_dpo or another (below)
    init: str = BASE  # base, one of the recipe's models, or another run
    samples: tuple[str, ...] = ()  # policies whose traces it learns from; none: its start
    rounds: Rounds | None = None  # a chain of rounds: sample, value, build, train, again

    @field_validator("samples", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("rounds", mode="before")
    @classmethod
    def _a_number_alone(cls, value: Any) -> Any:
        return {"count": value} if isinstance(value, int) else value


@dataclass(frozen=True)
class Run:
    """A run with all its settings. Equal for equal settings, whatever its name decides elsewhere."""

    name: str
    method: Method
    start: Start
    data: Settings
    training: TrainSettings | None
    given: Mapping[str, Any]  # settings as the recipe has them, its defaults included

    @property
    def init(self) -> str:
        return self.start.init

    @property
    def samples(self) -> tuple[str, ...]:
        return self.start.samples or (self.start.init,)

    @property
    def rounds(self) -> Rounds | None:
        return self.start.rounds

    @property
    def needs(self) -> frozenset[str]:
        return self.method.needs(self.data)

    def round(self, number: int) -> Run:
        """The settings of one round of the chain, from 1. Raises UserError where the schedule's do not fit."""
        assert self.rounds
        given = {**self.given, **self.rounds.change(number).run}
        faults: list[str] = []
        data, training = _settings(self.method, given, f"runs.{self.name}.rounds.schedule", faults)
        if faults:
            raise UserError("\n".join(faults))
        if training and self.rounds.gate:
            training = training.model_copy(update={"gate": True})
        return Run(self.name, self.method, self.start, data, training, given)


def read_runs(raw: Mapping[str, Mapping[str, Any]], defaults: Mapping[str, Any]) -> dict[str, Run]:
    """All runs of a recipe, each after those it needs. Raises UserError with every fault on its own line."""
    faults: list[str] = []
    runs: dict[str, Run] = {}
    used: set[str] = set()
    for name, body in raw.items():
        run = _read(name, body, defaults, faults, used)
        if run:
            runs[name] = run
    unused = sorted(set(defaults) - used) if runs else []
    faults += [f"training.{key}: {unknown(key, _all_settings(runs), 'no run has such a setting')}" for key in unused]
    if faults:
        raise UserError("\n".join(faults))
    return _ordered(runs)


def _read(
    name: str, body: Mapping[str, Any], defaults: Mapping[str, Any], faults: list[str], used: set[str]
) -> Run | None:
    own = {key: value for key, value in body.items() if key in Start.model_fields}
    try:
        start = Start.model_validate(own)
        method = find(start.method)
    except ValidationError as error:
        faults += fault_lines(error, Start, f"runs.{name}")
        return None
    except UserError as error:
        faults.append(f"runs.{name}.method: {error}")
        return None
    known = set(method.training.model_fields) if method.training else set()
    used |= known & set(defaults)
    given = {key: value for key, value in defaults.items() if key in known}
    given |= {key: value for key, value in body.items() if key not in own}
    for one, other in (("steps", "epochs"), ("epochs", "steps")):  # a run's own length takes the default's place
        if one in body and other not in body:
            given.pop(other, None)
    before = len(faults)
    data, training = _settings(method, given, f"runs.{name}", faults)
    return Run(name, method, start, data, training, given) if len(faults) == before else None


def _settings(
    method: Method, given: Mapping[str, Any], where: str, faults: list[str]
) -> tuple[Settings, TrainSettings | None]:
    """The settings of a method's data set and of its training, from one mapping."""
    kinds = [method.data, *([method.training] if method.training else [])]
    valid = {key for kind in kinds for key in kind.model_fields}
    for key in given:
        if key not in valid:
            faults.append(f"{where}.{key}: {unknown(key, valid | set(Start.model_fields))}")
    made: list[Any] = []
    for kind in kinds:
        try:
            made.append(kind.model_validate({k: v for k, v in given.items() if k in kind.model_fields}))
        except ValidationError as error:
            faults += fault_lines(error, kind, where)
            made.append(None)
    return made[0], made[1] if method.training else None


def _all_settings(runs: Mapping[str, Run]) -> set[str]:
    found = set(TrainSettings.model_fields) | set(PreferenceSettings.model_fields)
    return found | {key for run in runs.values() if run.training for key in type(run.training).model_fields}


def _ordered(runs: dict[str, Run]) -> dict[str, Run]:
    """Runs after those they start from or sample; otherwise as the recipe has them. Raises UserError on a circle."""
    out: dict[str, Run] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in out or name not in runs:
            return
        if name in path:
            raise UserError(f"runs.{name}: starts from itself, by way of {' -> '.join((*path, name))}")
        run = runs[name]
        for other in (run.init, *run.samples):
            visit(other, (*path, name))
        out[name] = run

    for name in runs:
        visit(name, ())
    return out


def merged(settings: Any, changes: Mapping[str, Any], where: str) -> Any:
    """Settings with some of them changed. Raises UserError, with `where` before each fault."""
    body = settings.model_dump(exclude_unset=True) | dict(changes)
    try:
        return type(settings).model_validate(body)
    except ValidationError as error:
        raise UserError("\n".join(fault_lines(error, type(settings), where))) from None
