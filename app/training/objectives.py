"""What a kind of training makes of log-probabilities: its loss, what that is divided by, and its metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from app.training import losses
from app.training.settings import (
    BceSettings,
    KtoSettings,
    NegativesSettings,
    PreferenceSettings,
    TrainSettings,
    UnpairedSettings,
)


@dataclass(frozen=True)
class Batch:
    """Examples of a micro-batch. Log-probabilities are sums over a branch's tokens, float32."""

    policy: torch.Tensor  # (examples, branches); of what Objective.of_tokens makes of the tokens
    reference: torch.Tensor  # (examples, branches); zeros where nothing is compared
    lengths: torch.Tensor  # (examples, branches) tokens
    weights: torch.Tensor  # (examples,)
    labels: torch.Tensor  # (examples,) bool; all true where examples have none
    divergence: float = 0.0  # KTO's reference point: nats, the same in a whole step


class Objective:
    """NLL, and what the others change."""

    compares: bool = False  # with a reference
    unrelated: bool = False  # whether a step needs the divergence, from prompts with completions of other problems
    sums: ClassVar[tuple[str, ...]] = ()  # numbers that `loss` gives for a micro-batch

    def of_tokens(self, logps: torch.Tensor) -> torch.Tensor:
        """What is summed over a branch's tokens, from their log-probabilities (T,)."""
        return logps

    def scale(self, weights: np.ndarray, lengths: np.ndarray) -> float:
        """What the loss of a step is divided by; weights (examples,), lengths (examples, branches)."""
        return float((weights * lengths[:, 0]).sum())

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """The weighted sum of the examples' losses, and `sums`."""
        return losses.nll(batch.policy[:, 0], batch.weights), {}

    def report(self, sums: dict[str, float], lengths: np.ndarray) -> dict[str, float]:
        """Metrics of a step, from its `sums` and the lengths of its examples' branches."""
        return {}


class Pairs(Objective):
    """DPO and its kin."""

    sums = ("preference", "margin", "accuracy", "logp_chosen", "logp_rejected", "gain_chosen", "gain_rejected")

    def __init__(self, settings: PreferenceSettings) -> None:
        self.settings = settings
        self.compares = settings.loss != "simpo"  # it has no reference: gains and margins are the policy's own

    def scale(self, weights: np.ndarray, lengths: np.ndarray) -> float:
        return float(weights.sum())

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        policy, reference = batch.policy, batch.reference
        each = losses.preference(self.settings, policy, reference, batch.lengths)
        preference = float(each.detach().sum())
        if self.settings.rpo_alpha:
            each = each + self.settings.rpo_alpha * losses.chosen_nll(policy, batch.lengths)
        margin = losses.margins(policy, reference).detach()
        chosen, rejected = policy.detach().sum(0).tolist()[:2]
        gains = (policy.detach() - reference).sum(0).tolist()
        return (batch.weights * each).sum(), {
            "preference": preference,
            "margin": float(margin.sum()) * self.settings.beta,
            "accuracy": float((margin > 0).sum()),
            "logp_chosen": chosen,
            "logp_rejected": rejected,
            "gain_chosen": gains[0],
            "gain_rejected": gains[1],
        }

    def report(self, sums: dict[str, float], lengths: np.ndarray) -> dict[str, float]:
        mean = lengths.mean(0)
        means = {name: sums[name] / len(lengths) for name in self.sums}
        return means | {"length_chosen": float(mean[0]), "length_rejected": float(mean[1])}


class Unpaired(Objective):
    """KTO, and binary cross-entropy on the implicit reward: examples that are right or wrong by themselves."""

    compares = True
    sums = ("margin", "accuracy", "desirable", "gain_desirable", "gain_undesirable", "divergence")

    def __init__(self, settings: UnpairedSettings) -> None:
        self.settings = settings
        self.unrelated = isinstance(settings, KtoSettings)
        self.each = losses.kto if self.unrelated else losses.bce

    def scale(self, weights: np.ndarray, lengths: np.ndarray) -> float:
        return float(weights.sum())

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        gains, right = batch.policy[:, 0] - batch.reference[:, 0], batch.labels
        logits = self.settings.beta * torch.where(right, gains - batch.divergence, batch.divergence - gains)
        factor = torch.where(right, self.settings.desirable_weight, self.settings.undesirable_weight)
        known, margin = gains.detach(), logits.detach()
        return (batch.weights * factor * self.each(logits)).sum(), {
            "margin": float(margin.sum()),
            "accuracy": float((margin > 0).sum()),
            "desirable": float(right.sum()),
            "gain_desirable": float(known[right].sum()),
            "gain_undesirable": float(known[~right].sum()),
            "divergence": batch.divergence * len(known),
        }

    def report(self, sums: dict[str, float], lengths: np.ndarray) -> dict[str, float]:
        count, right = len(lengths), sums["desirable"]
        out = {name: sums[name] / count for name in ("margin", "accuracy", "desirable", "divergence")}
        gains = {"gain_desirable": right, "gain_undesirable": count - right}
        return out | {name: sums[name] / max(1, of) for name, of in gains.items()}


class Negatives(Objective):
    """Negative sample reinforcement: the tokens of wrong traces less likely, those of right ones a little more."""

    sums = ("tokens_right", "tokens_wrong", "likelihood_right", "likelihood_wrong")

    def __init__(self, settings: NegativesSettings) -> None:
        self.settings = settings

    def of_tokens(self, logps: torch.Tensor) -> torch.Tensor:
        return logps.exp()

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        likelihood, right = batch.policy[:, 0], batch.labels
        known, lengths = likelihood.detach(), batch.lengths[:, 0]
        return losses.reinforced(likelihood, right, batch.weights, self.settings.positive_weight), {
            "tokens_right": float(lengths[right].sum()),
            "tokens_wrong": float(lengths[~right].sum()),
            "likelihood_right": float(known[right].sum()),
            "likelihood_wrong": float(known[~right].sum()),
        }

    def report(self, sums: dict[str, float], lengths: np.ndarray) -> dict[str, float]:
        return {f"likelihood_{kind}": sums[f"likelihood_{kind}"] / max(1, sums[f"tokens_{kind}"]) for kind in KINDS}


KINDS = ("right", "wrong")


def objective_of(settings: TrainSettings) -> Objective:
    """The objective that settings are for."""
    kinds: dict[type[TrainSettings], Any] = {
        PreferenceSettings: Pairs,
        KtoSettings: Unpaired,
        BceSettings: Unpaired,
        NegativesSettings: Negatives,
    }
    for kind, made in kinds.items():
        if isinstance(settings, kind):
            return made(settings)
    return Objective()
