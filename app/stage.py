"""What a stage is, and what it gets to do its work. No ray here: a stage's run function imports what it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from app.progress import Progress
from app.recipe import Recipe
from app.records import digest
from app.shard_stats import Written
from app.store import Output

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Inputs = TypeVar("Inputs", bound="DataclassInstance")


@dataclass(frozen=True)
class Stage:
    """A named step of a run.

    Its key covers its kind, `settings`, `revision` and the keys of `inputs` by role. No name is part of it: two stages
    that would do the same have one key, and a run that gets another name keeps what it has.
    """

    name: str  # "problems", "training/rft": kind, and name of the run or policy; also the folder under the run
    run: Callable[[StageContext], None]  # writes shards to context.output; returns when all are there
    settings: dict[str, Any]  # the part of the recipe that decides the result, plain JSON values
    inputs: dict[str, str] = field(default_factory=dict)  # role -> name of a stage
    revision: int = 1  # bumped by hand when the meaning of the stage changes
    options: dict[str, Any] = field(default_factory=dict)  # arguments for `run` that settings or inputs already imply
    recipe: Recipe | None = None  # as this stage sees it, where that is not the run's own
    after: str | None = None  # a training stage: where that kept its start, this stage is left out,
    passes: bool = False  # or, where true, passes that start on

    @property
    def kind(self) -> str:
        """The part of the name that says what it does."""
        return self.name.partition("/")[0]

    @property
    def subject(self) -> str:
        """The name of the run or policy it is for; empty where there is one for all."""
        return self.name.partition("/")[2]

    def key(self, inputs: dict[str, str]) -> str:
        """Key of the output, given the keys of the inputs by role."""
        return digest(self.kind, self.revision, self.settings, sorted(inputs.items()), size=8)


@dataclass(frozen=True)
class StageContext:
    """What `Stage.run` gets."""

    stage: Stage
    recipe: Recipe
    inputs: dict[str, Output]  # finished outputs of the input stages, by role
    output: Output
    progress: Progress
    _told: list[Written] = field(default_factory=list, init=False)  # at most one

    def given(self, kind: type[Inputs]) -> Inputs:
        """The inputs as a dataclass of Outputs, a field a role; a field with a default may be missing."""
        roles = [field.name for field in fields(kind) if field.name in self.inputs]
        return kind(**{role: self.inputs[role] for role in roles})

    def wrote(self, written: Written) -> None:
        """Say what all shards of the output hold, where that is known without reading their footers."""
        self._told[:] = [written]

    @property
    def written(self) -> Written:
        """What all shards of the output hold together; ask when they are there, because it is read at most once."""
        if not self._told:
            self.wrote(self.output.written())
        return self._told[0]

    def pending(self, shards: int, kind: str = "part") -> list[int]:
        """Of `shards` deterministic shards, those not yet written: where a stopped run goes on."""
        done = set(self.output.done_shards(kind))
        return [index for index in range(shards) if index not in done]
