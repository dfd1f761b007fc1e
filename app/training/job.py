"""What a training worker needs to know: picklable, absolute paths, nothing of the driver."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from app.store import Output
from app.training.candidates import Candidates
from app.training.corpus import PREFERENCE
from app.training.settings import PreferenceSettings, TrainPlacement, TrainSettings


@dataclass(frozen=True)
class Job:
    """One training run."""

    method: str  # sft, rft, dpo or step_dpo
    dataset: Output
    output: Output
    policy: str  # start weights: a folder or hub name
    fingerprint: str  # of the start weights
    revision: str | None
    trust_remote_code: bool
    settings: TrainSettings
    placement: TrainPlacement
    seed: int
    began: float = 0.0  # when the driver started this attempt, seconds since 1970
    start: dict[str, str] = field(default_factory=dict)  # how an adapter names those weights: app.policy.BASE
    lineage: tuple[tuple[str, str], ...] = ()  # what the card says of the stages before: label, text

    @property
    def preference(self) -> PreferenceSettings | None:
        """The settings of a run on pairs, None for SFT and RFT."""
        if self.method not in PREFERENCE:
            return None
        assert isinstance(self.settings, PreferenceSettings)
        return self.settings

    @property
    def metrics(self) -> Path:
        """JSON lines, one a step."""
        return self.output.local("metrics.jsonl")

    @property
    def references(self) -> Path:
        """Reference log-probabilities, shared by the run's training stages."""
        return Output(self.output.root, "training/references", "").local()

    @property
    def failure(self) -> Path:
        """Where a worker leaves the text of a UserError for the driver."""
        return self.output.local("failure.txt")

    @property
    def candidates(self) -> Candidates:
        """Checkpoints under evaluation, where the settings ask for that."""
        return Candidates(self.output.local(), self.settings.patience)
