"""What a training worker needs to know: picklable, absolute paths, nothing of the driver."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field

from app.policy import Policy
from app.remote_folder import TextFile, file_of, here
from app.store import Output
from app.training.candidates import Candidates, StoredCandidates
from app.training.settings import PreferenceSettings, TrainPlacement, TrainSettings


@dataclass(frozen=True)
class Job:
    """One training run."""

    method: str  # sft, rft, dpo, step_dpo or one of the user's
    dataset: Output
    output: Output
    policy: str  # start weights: a folder, its URI, or a hub name
    fingerprint: str  # of the start weights
    revision: str | None
    trust_remote_code: bool
    settings: TrainSettings
    placement: TrainPlacement
    seed: int
    began: float = 0.0  # when the driver started this attempt, seconds since 1970
    start: dict[str, str] = field(default_factory=dict)  # how an adapter names those weights: app.policy.BASE
    reference: Policy | None = None  # of losses on log pi/ref, where it is not the start
    title: str = ""  # of the method, for the card; a worker knows no methods of plugins
    lineage: tuple[tuple[str, str], ...] = ()  # what the card says of the stages before: label, text

    @property
    def name(self) -> str:
        """The run's, or that of one round of it."""
        return self.output.stage.partition("/")[2]

    @property
    def preference(self) -> PreferenceSettings | None:
        """The settings of a run on pairs, None for one on single solutions."""
        return self.settings if isinstance(self.settings, PreferenceSettings) else None

    def weights(self) -> str:
        """The start weights as transformers loads them on this node: a folder or hub name."""
        return here(self.policy)

    @property
    def model(self) -> str:
        """Path or URI of the exported model."""
        return posixpath.join(self.output.uri, "model")

    @property
    def metrics(self) -> TextFile:
        """JSON lines, one a step."""
        return file_of(self.output, "metrics.jsonl")

    @property
    def references(self) -> Output:
        """Reference log-probabilities, shared by the run's training stages."""
        return Output(self.output.root, "training/references", "")

    @property
    def failure(self) -> TextFile:
        """Where a worker leaves the text of a UserError for the driver."""
        return file_of(self.output, "failure.txt")

    @property
    def candidates(self) -> Candidates:
        """Checkpoints under evaluation, where the settings ask for that."""
        if self.output.remote:
            return StoredCandidates(self.output.uri, self.output.local(), self.settings.patience, self.settings.gate)
        return Candidates(self.output.local(), self.settings.patience, self.settings.gate)
