"""The training loop: what every worker runs, whatever the objective."""

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
from app.training.dataset import Dataset, check_vocabulary, unrelated
from app.training.export import export
from app.training.flops import TokenCost, peak
from app.training.forward import batch, sequence_log_probs
from app.training.job import Job
from app.training.metrics import Feed, MetricsFile, metrics_of
from app.training.model import build
from app.training.model_card import card
from app.training.objectives import Batch, objective_of
from app.training.preemption import Deadline, Notice, agree
from app.training.reference import divergence, live, reference, stored
from app.training.sampler import Sampler, micro_batches, sampler_for
from app.training.sequence import Team
from app.training.settings import ReferenceSettings, TrainSettings
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
        self.saved = time.monotonic()  # when the last checkpoint was begun
        self.astray = 0.0  # nats of the first step's worst branch beyond what rounding explains
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.order: Sampler = sampler_for(job.settings, dataset.problems, job.seed)
        self.lengths = dataset.lengths
        self.objective = objective_of(job.settings)
        self.sums = ("loss", "tokens", "computed", *self.objective.sums)
        self.unrelated = unrelated(dataset, job.settings.max_length) if self.objective.unrelated else None
        self.divergence = 0.0  # of the step
        other = self._other_reference()  # before the engine: two models would not fit where one does
        self.engine: Backend = build(job, device)
        self.team: Team = self.engine.module.team
        model = self.engine.module.model
        check_vocabulary(dataset, model.config.get_text_config().vocab_size, f"the model {job.policy}")
        self.cost, self.peak = TokenCost(model), peak(device, job.placement.peak_tflops)
        is_stored = isinstance(job.settings, ReferenceSettings) and job.settings.reference == "stored"
        if other is None and is_stored and self.objective.compares:
            other = [reference(self.engine, each, job, device) for each in self._compared()]
        self.reference, self.unrelated_reference = [*(other or []), None, None][:2]

    def _compared(self) -> list[Dataset]:
        """What reference log-probabilities are needed of."""
        return [self.dataset] + ([self.unrelated] if self.unrelated else [])

    def _other_reference(self) -> list[np.ndarray] | None:
        """Log-probabilities under a policy that is not the start: the one a chain of rounds began with."""
        if self.job.reference is None or not self.objective.compares:
            return None
        other = replace(self.job, policy=self.job.reference.path, fingerprint=self.job.reference.fingerprint)
        known = [stored(dataset, other, self.device) for dataset in self._compared()]
        found = [values for values in known if values is not None]
        if len(found) == len(known):
            return found
        engine = build(other, self.device)
        try:
            return [reference(engine, dataset, other, self.device) for dataset in self._compared()]
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
            elif done < self.order.steps and self.checkpoint_due(done):
                self.save(done)
            self.offer(done)
        if not self.job.settings.judged:
            self.export("model", self.order.steps)

    def over(self) -> bool:
        """Whether early stopping has ended the run."""
        return self.job.settings.judged and agree(self.job.candidates.stop.exists(), self.device)

    def checkpoint_due(self, done: int) -> bool:
        """Whether `checkpoint_steps`, or rank 0's clock, asks for a checkpoint after `done` steps."""
        every = self.job.settings.checkpoint_steps
        if every is not None:
            return done % every == 0
        return agree(time.monotonic() - self.saved >= 60 * self.job.placement.checkpoint_minutes, self.device)

    def save(self, done: int) -> float:
        """A checkpoint after `done` steps; returns the seconds it took."""
        began = time.perf_counter()
        self.saved = time.monotonic()
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
        scale = self.objective.scale(self.dataset.weights[examples], self.dataset.completion_lengths(examples))
        if self.unrelated:
            known = self.unrelated_reference
            self.divergence = divergence(self.engine, self.unrelated, known, examples, self.job, self.device)
        sums = torch.zeros(len(self.sums), dtype=torch.float64)
        how = self.job.settings
        size, tokens = how.micro_batch, how.micro_batch_tokens
        for part in micro_batches(examples, self.lengths, size, self.team.count, self.order.groups, tokens):
            mine = self.micro_step(part[self.team.index], examples, scale)
            sums += mine if self.team.place == 0 else 0  # its workers all know the same
        if self.world > 1:
            sums = sums.to(self.device)
            dist.all_reduce(sums)
        row = dict(zip(self.sums, sums.tolist(), strict=True))
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

    def micro_step(self, part: np.ndarray, examples: np.ndarray, scale: float) -> torch.Tensor:
        """Forward and backward of one micro-batch; returns its share of the step's sums."""
        indices = part if len(part) else examples[:1]  # an idle worker still joins the collectives, with weight 0
        rows = batch(self.engine.module, self.dataset, indices)
        policy = sequence_log_probs(self.engine, rows, self.device, self.objective.of_tokens)
        seen = self.batch(policy.view(len(indices), -1), rows, indices, idle=not len(part))
        if self.comparing:
            self.astray = max(
                self.astray,
                losses.astray(seen.policy.detach(), seen.reference, seen.lengths, self.job.settings.precision),
            )
        loss, sums = self.objective.loss(seen)
        self.engine.backward(loss / scale)
        own = {"loss": float(loss.detach()) / scale, "computed": float(rows.computed)}
        if len(part):
            own |= {"tokens": float(len(rows.targets)), **sums}
        return torch.tensor([own.get(name, 0.0) for name in self.sums], dtype=torch.float64)

    def batch(self, policy: torch.Tensor, rows: Rows, indices: np.ndarray, idle: bool) -> Batch:
        """What the objective sees of examples; those of an idle worker weigh nothing."""
        weights, labels = self.dataset.weights[indices], self.dataset.labels
        return Batch(
            policy,
            self.reference_of(indices, rows),
            torch.from_numpy(self.dataset.completion_lengths(indices)).to(self.device),
            torch.from_numpy(weights * (not idle)).to(self.device).float(),
            torch.from_numpy(np.ones(len(indices), bool) if labels is None else labels[indices]).to(self.device),
            self.divergence,
        )

    def reference_of(self, indices: np.ndarray, rows: Rows) -> torch.Tensor:
        """Reference log-probabilities, (examples, branches): stored, or by the model without its adapters; zeros where
        the objective compares nothing.
        """
        if not self.objective.compares:
            return torch.zeros(len(indices), len(self.dataset.branches), device=self.device)
        if self.reference is None:
            return live(self.engine, rows, self.device).view(len(indices), -1)
        return torch.from_numpy(self.reference[indices]).to(self.device)

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
        return self.objective.compares and self.job.reference is None

    def diverged(self, step: int, what: str) -> UserError:
        """The error of a run whose numbers are none any more."""
        return UserError(
            f"training/{self.job.name}: {what} at step {step + 1}; try a smaller learning_rate (now "
            f"{self.job.settings.learning_rate:g}) or precision fp32. Checkpoints before that step are kept"
        )

    def report(self, row: dict[str, float], examples: np.ndarray, seconds: float) -> dict[str, float]:
        """A row of the metrics file: means over the step's examples, sums of tokens."""
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
        return out | self.objective.report(row, self.dataset.completion_lengths(examples))
