"""One training run's hyperparameters, and where its workers run."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from app.placement import Labels
from app.settings import Settings


class LoraSettings(Settings):
    """Low-rank adapters (2106.09685) in place of full fine-tuning."""

    r: int = Field(default=16, ge=1)  # rank
    alpha: float = Field(default=32.0, gt=0)  # an update counts alpha / r times
    dropout: float = Field(default=0.0, ge=0, lt=1)  # of the adapter's inputs
    target_modules: tuple[str, ...] = ()  # names of linear layers; none: all but the output head
    quantize: bool = False  # QLoRA (2305.14314): the frozen weights in 4 bits, by bitsandbytes, on GPUs only
    merge: bool = True  # export whole weights; false: the adapter alone, which is served on an engine of its base
    keep: bool = False  # with merge: also export the adapter alone, as model/adapter

    @model_validator(mode="after")
    def _one_export(self) -> LoraSettings:
        if self.keep and not self.merge:
            raise ValueError("keep: without merge the model is the adapter already; leave one of the two out")
        return self


class TrainSettings(Settings):
    """One training. `batch` counts examples or pairs an optimiser step, over all workers."""

    labels: ClassVar[bool] = False  # whether examples are labelled right or wrong

    epochs: float | None = Field(default=None, gt=0)  # times the data set is gone through
    steps: int | None = Field(default=None, ge=1)  # exactly one of epochs and steps
    batch: int = Field(default=64, ge=1)  # examples or pairs an optimiser step, over all workers
    micro_batch: int = Field(default=16, ge=1)  # a worker's (or a team's) share of one forward pass
    micro_batch_tokens: int | None = Field(default=None, ge=1)  # in place of micro_batch: about so many tokens at most
    learning_rate: float = Field(default=1e-5, gt=0)  # at its highest
    warmup: float = Field(default=0.05, ge=0, lt=1)  # share of steps
    schedule: Literal["cosine", "linear", "constant"] = "cosine"  # how the learning rate falls after the warmup
    weight_decay: float = Field(default=0.0, ge=0)  # of matrices; biases and norms do not decay
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"  # 8bit: its state in a quarter of the memory, on GPUs only
    betas: tuple[float, float] = (0.9, 0.95)  # of AdamW
    max_grad_norm: float = Field(default=1.0, gt=0)  # gradient norm
    max_length: int = Field(default=1024, ge=8)  # tokens; longer examples are skipped and counted
    group: Literal["none", "problem"] = "none"  # problem: its examples stay together in a step, over one trunk
    precision: Literal["bf16", "fp32"] = "bf16"  # of the forward and backward pass; the optimiser keeps fp32
    gradient_checkpointing: bool = False  # compute layers again in the backward pass: less memory, more time
    lora: LoraSettings | None = None  # train adapters; none: all weights
    checkpoint_steps: int | None = Field(default=None, ge=1)  # none: by time, placement.training.checkpoint_minutes
    evaluate_every: int | None = Field(default=None, ge=1)  # steps between greedy accuracies on validation problems
    evaluate_problems: int = Field(default=200, ge=1)  # of them, the first by id
    patience: int | None = Field(default=None, ge=1)  # evaluations without a better one that end training

    gate: bool = False  # the best candidate on validation problems is kept, and the start is one of them

    @property
    def judged(self) -> bool:
        """Whether candidates are evaluated on validation problems."""
        return self.gate or self.evaluate_every is not None

    @model_validator(mode="after")
    def _one_size(self) -> TrainSettings:
        if self.micro_batch_tokens is not None and "micro_batch" in self.model_fields_set:
            raise ValueError("micro_batch_tokens: in place of micro_batch; leave one of the two out")
        return self

    @model_validator(mode="after")
    def _one_length(self) -> TrainSettings:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of epochs and steps")
        if self.patience is not None and self.evaluate_every is None:
            raise ValueError("patience needs evaluate_every: without evaluations nothing can be judged better")
        return self


class ReferenceSettings(TrainSettings):
    """Losses on log pi/ref. Reference = the weights it starts from."""

    beta: float = Field(default=0.1, gt=0)  # how closely the policy is held to its reference: higher is closer
    reference: Literal["stored", "live"] = "stored"  # live: computed each step by the same model without its adapters

    @model_validator(mode="after")
    def _live_needs_adapters(self) -> ReferenceSettings:
        if self.reference == "live" and self.lora is None:
            raise ValueError("reference: live needs lora, whose base is the reference; without it use stored")
        return self


class PreferenceSettings(ReferenceSettings):
    """DPO and per-step DPO (they differ in the pairs only)."""

    # by their names in TRL, where it has them (app/training/losses.py)
    loss: Literal["sigmoid", "hinge", "ipo", "cdpo", "robust", "simpo", "dpop", "listwise"] = "sigmoid"
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)  # cdpo, robust: share of pairs labelled wrongly
    simpo_gamma: float = Field(default=0.0, ge=0)  # simpo: margin wanted
    dpop_lambda: float = Field(default=50.0, ge=0)  # dpop: penalty where a chosen branch falls below the reference
    rpo_alpha: float = Field(default=0.0, ge=0)  # weight of the NLL of the chosen branch, a token (Iterative RPO)
    weights: Literal["given", "certainty"] = "given"  # certainty: times how sure rollouts are that the step lost value


class UnpairedSettings(ReferenceSettings):
    """Right and wrong examples, each by itself. Where one kind is rarer, a larger weight brings it level."""

    labels: ClassVar[bool] = True

    desirable_weight: float = Field(default=1.0, ge=0)  # of right examples
    undesirable_weight: float = Field(default=1.0, ge=0)  # of wrong ones


class KtoSettings(UnpairedSettings):
    """KTO (2402.01306), with the names and defaults it has in TRL."""


class BceSettings(UnpairedSettings):
    """Binary cross-entropy on the implicit reward, SPoT-BCE (2603.01683)."""


class NegativesSettings(TrainSettings):
    """W-REINFORCE (2506.01347): negative samples, and positive ones at a small weight."""

    labels: ClassVar[bool] = True

    positive_weight: float = Field(default=0.1, ge=0)  # the paper's lambda; 0: negative samples alone


class TrainPlacement(Settings):
    """Ray Train workers and DeepSpeed: never part of a key."""

    workers: int = Field(default=1, ge=1)  # processes that train together
    cpus: float = Field(default=1, ge=0)  # a worker
    gpus: float = Field(default=0, ge=0)  # a worker
    labels: Labels = Field(default_factory=dict)  # of nodes that workers may use
    sequence_parallel: int = Field(default=1, ge=1)  # workers that share the tokens of a micro-batch (Ulysses)
    backend: Literal["deepspeed", "torch"] = "deepspeed"  # torch: without DeepSpeed, a whole model on each worker
    zero_stage: Literal[0, 1, 2, 3] = 0  # DeepSpeed ZeRO: what is shared out among workers (docs/gpu.md)
    offload: bool = False  # ZeRO offload of optimiser state (and parameters at stage 3) to CPU memory
    overlap_comm: bool = False  # ZeRO: move weights and gradients beside the work, for more memory
    zero_hpz_partition_size: int = Field(default=1, ge=1)  # ZeRO 3: workers of a node that hold all weights together
    compile: bool = False  # layers by torch.compile; not at ZeRO 3
    activation_offload: bool = False  # GPU only: what the backward pass needs waits in CPU memory
    checkpoint_minutes: float = Field(default=10, gt=0)  # between checkpoints, where checkpoint_steps is not given
    keep_checkpoints: bool = False  # those of a finished stage, to go on from by hand
    # lost workers after which training is begun again from its checkpoint; -1: any number
    max_failures: int = Field(default=3, ge=-1)
    peak_tflops: float | None = Field(default=None, gt=0)  # of one worker's device, for MFU; known for common GPUs
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()  # where curves go besides metrics.jsonl

    @model_validator(mode="after")
    def _whole_teams(self) -> TrainPlacement:
        if self.workers % self.sequence_parallel:
            raise ValueError(f"sequence_parallel: {self.workers} workers are no multiple of {self.sequence_parallel}")
        return self

    @model_validator(mode="after")
    def _zero_fits(self) -> TrainPlacement:
        if self.overlap_comm and not self.zero_stage:
            raise ValueError("overlap_comm: needs zero_stage 1, 2 or 3")
        size = self.zero_hpz_partition_size
        if size > 1 and (self.zero_stage != 3 or self.workers % size):
            raise ValueError(f"zero_hpz_partition_size: needs zero_stage 3 and workers in whole groups of {size}")
        if self.compile and self.zero_stage == 3:
            raise ValueError("compile: not with zero_stage 3, which puts weights together in the middle of a layer")
        if self.activation_offload and not self.gpus:
            raise ValueError("activation_offload: only on GPUs; set gpus, or leave it out")
        return self

    @model_validator(mode="after")
    def _torch_alone(self) -> TrainPlacement:
        if self.backend == "torch" and (self.zero_stage or self.offload or self.sequence_parallel > 1):
            raise ValueError("backend: torch has no zero_stage, offload and sequence_parallel; use deepspeed for them")
        return self
