"""The training loop: what every worker runs, for all four methods."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import torch
import torch.distributed as dist

from app.errors import UserError
from app.records import seed_from
from app.remote_folder import publish
from app.training import losses
from app.training.backend import Backend
from app.training.checkpoint_store import CheckpointStore, checkpoint_store
from app.training.dataset import Dataset, check_vocabulary
from app.training.export import export
from app.training.flops import TokenCost, peak
from app.training.forward import batch, sequence_log_probs
from app.training.job import Job
from app.training.metrics import Feed, MetricsFile, metrics_of
from app.training.model import build
from app.training.model_card import card
from app.training.preemption import Deadline, Notice, agree
from app.training.reference import live, reference, stored
from app.training.sampler import Sampler, micro_batches, sampler_for
from app.training.sequence import Team
from app.training.settings import TrainSettings
from app.training.trees import Rows


def learning_rate(settings: TrainSettings, step: int, steps: int) -> float:
    """Rate of step `step` (from 0): linear warm-up over a share of the steps, then the schedule down to 0."""
    warm = round(settings.warmup * steps)
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    if settings.schedule == "constant":
        return settings.learning_rate
    if settings.schedule == "linear":
        return settings.learning_rate * (1 - done)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


class Trainer:
    """One worker's state: engine, data, order, reference."""

    def __init__(
        self,
        job: Job,
        dataset: Dataset,
        device: torch.device,
        deadline: Deadline | None = None,
        feed: Feed | None = None,
    ) -> None:
        self.job, self.dataset, self.device, self.feed = job, dataset, device, feed
        self.checkpoints: CheckpointStore = checkpoint_store(job.output)
        self.metrics: MetricsFile | None = None
        self.notice = Notice(deadline, device)
        self.comparing = False  # in the first step policy and reference are compared
        self.astray = 0.0  # nats of the first step's worst branch beyond what rounding explains
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.order: Sampler = sampler_for(job.settings, dataset.problems, job.seed)
        self.lengths = dataset.lengths
        other = self._other_reference()  # before the engine: two models would not fit where one does
        self.engine: Backend = build(job, device)
        self.team: Team = self.engine.module.team
        model = self.engine.module.model
        check_vocabulary(dataset, model.config.get_text_config().vocab_size, f"the model {job.policy}")
        self.cost, self.peak = TokenCost(model), peak(device, job.placement.peak_tflops)
        pairs = job.preference
        at_start = pairs is not None and pairs.reference == "stored" and pairs.loss != "simpo" and other is None
        self.reference = reference(self.engine, dataset, job, device) if at_start else other

    def _other_reference(self) -> np.ndarray | None:
        """Log-probabilities of the pairs under a policy that is not the start: the one a chain of rounds began with."""
        if self.job.reference is None or not self.job.preference or self.job.preference.loss == "simpo":
            return None
        other = replace(self.job, policy=self.job.reference.path, fingerprint=self.job.reference.fingerprint)
        if (known := stored(self.dataset, other, self.device)) is not None:
            return known
        engine = build(other, self.device)
        try:
            return reference(engine, self.dataset, other, self.device)
        finally:
            engine.close()

    def train(self) -> None:
        """From the last complete checkpoint to the exported model, or to where the driver says it is over."""
        start = self.checkpoints.load(self.engine)
        if self.rank == 0:
            self.metrics = metrics_of(self.job.output, start, self.job.began, self.feed)
        self.engine.train()
        self.offer(start)  # a kill may have come between this checkpoint and its offer
        for step in range(start, self.order.steps):
            if self.over():
                return
            row = self.step(step)
            if self.metrics:
                self.metrics.append(row)
            done = step + 1
            if self.notice.due(row["seconds"]):
                self.notice.save_seconds = self.save(done)
            elif done % self.job.settings.checkpoint_steps == 0 and done < self.order.steps:
                self.save(done)
            self.offer(done)
        if not self.job.settings.judged:
            self.export("model", self.order.steps)

    def over(self) -> bool:
        """Whether early stopping has ended the run."""
        return self.job.settings.judged and agree(self.job.candidates.stop.exists(), self.device)

    def save(self, done: int) -> float:
        """A checkpoint after `done` steps; returns the seconds it took."""
        began = time.perf_counter()
        if self.metrics:
            self.metrics.publish()
        self.checkpoints.save(self.engine, done)
        return time.perf_counter() - began

    def offer(self, done: int) -> None:
        """Write a candidate for evaluation where one is due and a stopped attempt has not written it already."""
        if not self.job.settings.judged or not self.due(done):
            return
        candidates = self.job.candidates
        if agree(candidates.wanted(done), self.device):
            self.export(f"candidates/{candidates.path(done).name}", done)

    def due(self, done: int) -> bool:
        """Whether the weights after `done` steps are a candidate: every so many, at the end; for a gate, the start."""
        every = self.job.settings.evaluate_every
        if not done:
            return self.job.settings.gate
        return done == self.order.steps or bool(every and done % every == 0)

    def export(self, name: str, steps: int) -> None:
        """A model folder of the stage, with its card."""
        folder = self.job.output.local(name)
        folder.parent.mkdir(parents=True, exist_ok=True)
        export(self.engine, self.job, folder, card(self.job, self.dataset, steps))
        if self.metrics:
            self.metrics.publish()
            publish(self.job.output, name)

    def step(self, step: int) -> dict[str, float]:
        """One optimiser step over `batch` examples of all workers. Returns its metrics, the same on every rank."""
        began = time.perf_counter()
        torch.manual_seed(seed_from("step", self.job.seed, step, self.rank))  # dropout, for models that have it
        examples = self.order.step(step)
        self.comparing = step == 0 and self.starts_at_reference
        scale = self.scale(examples)
        sums = torch.zeros(len(SUMS), dtype=torch.float64)
        size, groups = self.job.settings.micro_batch, self.order.groups
        for part in micro_batches(examples, self.lengths, size, self.team.count, groups):
            mine = self.micro_step(part[self.team.index], examples, scale)
            sums += mine if self.team.place == 0 else 0  # its workers all know the same
        if self.world > 1:
            sums = sums.to(self.device)
            dist.all_reduce(sums)
        row = dict(zip(SUMS, sums.tolist(), strict=True))
        self.check(step, row)
        rate = learning_rate(self.job.settings, step, self.order.steps)
        norm = self.engine.step(rate)
        if not math.isfinite(norm):
            raise self.diverged(step, f"the gradient norm is {norm}")
        return self.report(row, examples, time.perf_counter() - began) | {
            "step": step + 1,
            "lr": rate,
            "grad_norm": norm,
        }

    def scale(self, examples: np.ndarray) -> float:
        """What the summed loss of a step is divided by: weighted tokens (NLL) or the weights of the pairs."""
        weights = self.dataset.weights[examples]
        if self.job.preference:
            return float(weights.sum())
        return float((weights * self.dataset.completion_lengths(examples)[:, 0]).sum())

    def micro_step(self, part: np.ndarray, examples: np.ndarray, scale: float) -> torch.Tensor:
        """Forward and backward of one micro-batch; returns its share of SUMS."""
        indices = part if len(part) else examples[:1]  # an idle worker still joins the collectives, with weight 0
        rows = batch(self.engine.module, self.dataset, indices)
        sequences = sequence_log_probs(self.engine, rows, self.device)
        weights = torch.tensor(self.dataset.weights[indices] if len(part) else [0.0], device=self.device).float()
        sums: dict[str, float] = {}
        if self.job.preference:
            loss, sums = self.pair_loss(sequences, self.reference_of(indices, rows), indices, weights)
        else:
            loss = losses.nll(sequences, weights)
        self.engine.backward(loss / scale)
        return _sums(
            loss=float(loss.detach()) / scale,
            tokens=len(rows.targets) if len(part) else 0,
            computed=rows.computed,
            **(sums if len(part) else {}),
        )

    def reference_of(self, indices: np.ndarray, rows: Rows) -> torch.Tensor:
        """Reference log-probabilities of pairs, (pairs, branches): stored, or by the model without its adapters."""
        assert self.job.preference
        if self.job.preference.loss == "simpo":  # it has no reference: gains and margins are the policy's own
            return torch.zeros(len(indices), len(self.dataset.branches), device=self.device)
        if self.reference is None:
            return live(self.engine, rows, self.device).view(len(indices), -1)
        return torch.from_numpy(self.reference[indices]).to(self.device)

    def pair_loss(
        self, sequences: torch.Tensor, reference: torch.Tensor, indices: np.ndarray, weights: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Summed DPO loss of pairs, with the NLL term where asked for, and what is worth watching."""
        assert self.job.preference
        policy = sequences.view(len(indices), -1)
        lengths = torch.from_numpy(self.dataset.completion_lengths(indices)).to(self.device)
        if self.comparing:
            self.astray = max(
                self.astray, losses.astray(policy.detach(), reference, lengths, self.job.settings.precision)
            )
        each = losses.preference(self.job.preference, policy, reference, lengths)
        preference = float(each.detach().sum())
        if self.job.preference.rpo_alpha:
            each = each + self.job.preference.rpo_alpha * losses.chosen_nll(policy, lengths)
        margin = losses.margins(policy, reference).detach()
        chosen, rejected = policy.detach().sum(0).tolist()[:2]
        gains = (policy.detach() - reference).sum(0).tolist()
        return (weights * each).sum(), {
            "preference": preference,
            "margin": float(margin.sum()) * self.job.preference.beta,
            "accuracy": float((margin > 0).sum()),
            "logp_chosen": chosen,
            "logp_rejected": rejected,
            "gain_chosen": gains[0],
            "gain_rejected": gains[1],
        }

    def check(self, step: int, row: dict[str, float]) -> None:
        """Stop before the weights are touched by a loss that is not a number, or by a reference that is not the
        start's: pair by pair, for two that are off by as much in both directions leave the mean loss as it was.
        """
        if not math.isfinite(row["loss"]):
            raise self.diverged(step, f"the loss is {row['loss']}")
        if not self.comparing:
            return
        astray = torch.tensor([self.astray], device=self.device)
        if self.world > 1:
            dist.all_reduce(astray, op=dist.ReduceOp.MAX)
        if float(astray) > 0:
            raise UserError(
                f"training/{self.job.name}: at the first step a branch's log-probability is {float(astray):.3g} nats "
                "further from its reference than rounding explains: the reference log-probabilities do not belong to "
                f"the start weights {self.job.policy}. Delete {self.job.references.uri} and run again"
            )

    @property
    def starts_at_reference(self) -> bool:
        """Whether policy and reference agree before the first step."""
        pairs = self.job.preference
        return pairs is not None and pairs.loss != "simpo" and self.job.reference is None

    def diverged(self, step: int, what: str) -> UserError:
        """The error of a run whose numbers are none any more."""
        return UserError(
            f"training/{self.job.name}: {what} at step {step + 1}; try a smaller learning_rate (now "
            f"{self.job.settings.learning_rate:g}) or precision fp32. Checkpoints before that step are kept"
        )

    def report(self, row: dict[str, float], examples: np.ndarray, seconds: float) -> dict[str, float]:
        """A row of the metrics file: means over the step's pairs, sums of tokens."""
        useful = float(self.lengths[examples].sum())
        out = {
            "loss": row["loss"],
            "examples": len(examples),
            "tokens": row["tokens"],
            "computed_tokens": row["computed"],
            "useful_tokens": useful,
            "useful_tokens_per_second": useful / seconds,
            "seconds": seconds,
            "time": time.time(),
        }
        if self.peak:
            flops = self.cost.flops(useful, useful / (len(examples) * len(self.dataset.branches)))
            out["mfu"] = flops / (seconds * self.peak * self.world)
        if self.job.preference:
            out |= {key: row[key] / len(examples) for key in PAIR_SUMS}
            lengths = self.dataset.completion_lengths(examples).mean(0)
            out |= {"length_chosen": float(lengths[0]), "length_rejected": float(lengths[1])}
        return out


PAIR_SUMS = ("preference", "margin", "accuracy", "logp_chosen", "logp_rejected", "gain_chosen", "gain_rejected")
SUMS = ("loss", "tokens", "computed", *PAIR_SUMS)


def _sums(**values: float) -> torch.Tensor:
    return torch.tensor([values.get(name, 0.0) for name in SUMS], dtype=torch.float64)
