"""What is asked of the policy, and where the engines run."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from app.placement import ActorPlacement
from app.sampling.engine_args import check
from app.settings import Settings

# speculative: vLLM 0.32's CPU build writes other tokens with it (docs/gpu.md)
GPU_ONLY = ("chunked_prefill", "cuda_graph_sizes", "kv_cache_dtype", "quantization", "speculative")
VLLM_ONLY = (*GPU_ONLY, "max_num_batched_tokens", "engine_args")


class Stopping(Settings):
    """Quotas of distinct traces a problem; sampling stops where they are met (app/sampling/stopping.py).

    budget: `uniform` asks `correct` correct traces of every problem; `proportional` scales that by the problem's fail
    rate over its first `pilot` samples, to at least one: DART-Math's two strategies (arXiv 2407.13690).
    """

    correct: int = Field(default=4, ge=0)  # distinct right traces wanted of a problem
    incorrect: int = Field(default=0, ge=0)  # distinct wrong traces wanted of a problem
    budget: Literal["uniform", "proportional"] = "uniform"  # proportional: more of hard problems
    pilot: int = Field(default=8, ge=1)  # proportional only
    most: int | None = Field(default=None, ge=1)  # samples a hard problem may take once easy ones left theirs over


class SamplingSettings(Settings):
    """`samples` traces a problem, or at most so many where `stopping` is given; they enter the stage's key."""

    policy: Literal["base", "sft"] = "sft"  # no effect, for recipes of old runs: a run's `samples` says whose traces
    samples: int = Field(default=8, ge=1)  # traces drawn of each problem
    temperature: float = Field(default=1.0, ge=0)  # 0: greedy, one trace is enough then
    top_p: float = Field(default=1.0, gt=0, le=1)  # smallest set of next tokens that has this probability
    top_k: int | None = Field(default=None, ge=1)  # so many of the likeliest next tokens; none: all
    min_p: float = Field(default=0.0, ge=0, le=1)  # next tokens at least so many times as likely as the likeliest
    max_tokens: int = Field(default=512, ge=1)  # of one trace; it is cut there
    continued_at: tuple[int, ...] = ()  # traces are drawn to these lengths first, and those cut there go on from there
    problems_per_shard: int = Field(default=32, ge=1)  # problems of one file: what a stopped run repeats at most
    stopping: Stopping | None = None  # quotas at which a problem is done; none: all samples are drawn

    @property
    def truncated(self) -> bool:
        """Whether some next tokens cannot be drawn at all."""
        return self.top_p < 1 or self.top_k is not None or self.min_p > 0

    @property
    def cuts(self) -> tuple[int, ...]:
        """Tokens at which traces are cut, in turn; the last is `max_tokens`."""
        return (*self.continued_at, self.max_tokens)

    @model_validator(mode="after")
    def _cuts_grow(self) -> SamplingSettings:
        if self.continued_at and self.stopping:
            raise ValueError("continued_at: not with stopping, which judges traces as they are first drawn")
        if any(low >= high for low, high in zip((0, *self.continued_at), self.cuts, strict=True)):
            raise ValueError("continued_at: give lengths that grow and are below max_tokens, for example [512]")
        return self

    @model_validator(mode="after")
    def _quotas_fit(self) -> SamplingSettings:
        if self.stopping is None:
            return self
        if self.stopping.correct + self.stopping.incorrect == 0:
            raise ValueError("stopping: ask for at least one correct or incorrect trace")
        if self.stopping.budget == "proportional" and self.stopping.correct == 0:
            raise ValueError(
                "stopping.budget: proportional scales stopping.correct, which is 0; raise it, or use uniform"
            )
        if self.stopping.correct + self.stopping.incorrect > (most := self.stopping.most or self.samples):
            raise ValueError(
                f"stopping: {most} samples a problem cannot meet these quotas; raise samples or stopping.most"
            )
        if self.stopping.most is not None and self.stopping.most < self.samples:
            raise ValueError("stopping.most: must be at least samples")
        return self


class EndpointBudget(Settings):
    """What one session of a stage may spend on an endpoint; what it has spent is not remembered by the next.

    Prices are those of the endpoint, in any currency, a million tokens.
    """

    tokens: int | None = Field(default=None, ge=1)  # read and written
    cost: float | None = Field(default=None, gt=0)  # in the currency of the prices
    input_price: float = Field(default=0, ge=0)  # of a million tokens read
    output_price: float = Field(default=0, ge=0)  # of a million tokens written

    @model_validator(mode="after")
    def _cost_has_prices(self) -> EndpointBudget:
        if self.cost is not None and not self.input_price + self.output_price:
            raise ValueError("cost: give input_price and output_price as well (per million tokens), or limit tokens")
        return self


class Endpoint(Settings):
    """An OpenAI-compatible server of the base model's own weights; it must return token ids, as `vllm serve` does."""

    base_url: str = Field(pattern=r"^https?://")  # with its /v1
    model: str  # the endpoint's name for it
    api_key_env: str = "OPENAI_API_KEY"  # name of the environment variable that holds the key
    concurrency: int = Field(default=64, ge=1)  # requests at once
    timeout: float = Field(default=600, gt=0)  # seconds, a request
    budget: EndpointBudget = EndpointBudget()


class Speculation(Settings):
    """Tokens guessed ahead and checked in one step. The distribution of traces stays; a seed's own trace does not."""

    tokens: int = Field(ge=1, le=32)  # guessed at a time
    model: str | None = None  # a smaller one of the same tokenizer that guesses; none: n-grams of the text so far
    lookup: int = Field(default=4, ge=1)  # n-grams: tokens that must recur, at most


class EnginePlacement(ActorPlacement):
    """Engine actors: part of no key but for max_model_len, dtype, quantization and kv_cache_dtype."""

    gpus: float = Field(default=0, ge=0)  # an actor; a fraction shares one GPU, above 1 = tensor parallel
    max_num_seqs: int = Field(default=256, ge=1)  # traces that an engine writes at once
    concurrent_shards: int = Field(default=8, ge=1)  # shards in flight an actor
    ahead: float = Field(default=0.5, ge=0, le=1)  # `stopping`: share of samples expected to be needed asked at once
    kv_cache_gib: float = Field(default=1, gt=0)  # CPU only
    gpu_memory: float = Field(default=0.9, gt=0, le=1)  # GPU only: share of the memory of its (part of the) GPU
    threads: int = Field(default=1, ge=1)  # CPU only: OpenMP threads; more than 1 needs as many idle cores
    stall_seconds: float = Field(default=1800, gt=0)  # an engine with work that finishes nothing for so long is ended
    enforce_eager: bool | None = None  # None: CUDA graphs on GPUs; on CPUs eager, as compiling there takes minutes
    max_model_len: int | None = None  # tokens of prompt and trace together; none: as many as the model takes
    # of weights and sums; auto: as the model's files say
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_num_batched_tokens: int | None = Field(default=None, ge=1)  # of a step; None: 8,192 on GPUs, vLLM's own on CPUs
    chunked_prefill: bool | None = None  # GPU only; None: vLLM's own choice, which is on
    cuda_graph_sizes: tuple[int, ...] = ()  # GPU only: batch sizes recorded; none: vLLM's own
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"  # GPU only; fp8: twice the tokens in the cache
    quantization: Literal["fp8"] | None = None  # GPU only: weights in FP8, made when they are loaded
    speculative: Speculation | None = None  # GPU only
    engine_args: dict[str, Any] = Field(default_factory=dict)  # more of vLLM's EngineArgs, by its names for them
    # vllm, sglang, or a function of your own (app/sampling/backends.py)
    backend: str = Field(default="vllm", pattern=r"^(vllm|sglang|[\w.]+:\w+)$")
    endpoint: Endpoint | None = None  # serves the base policy in place of own engines; trained policies need those

    @property
    def memory(self) -> float:
        """Share of a GPU's whole memory that an engine takes: engines that share a GPU share its memory too."""
        return self.gpu_memory * min(1.0, self.gpus)

    @property
    def eager(self) -> bool:
        """Whether the model runs as it is, without being compiled and recorded first."""
        return not self.gpus if self.enforce_eager is None else self.enforce_eager

    @model_validator(mode="after")
    def _one_actor_asks_an_endpoint(self) -> EnginePlacement:
        if self.endpoint and (self.actors, self.max_actors or 1) != (1, 1):
            raise ValueError("endpoint: one actor asks it and keeps its budget; set actors to 1, raise concurrency")
        return self

    @model_validator(mode="after")
    def _knobs_have_effect(self) -> EnginePlacement:
        for name in GPU_ONLY:
            if name in self.model_fields_set and not self.gpus and getattr(self, name) not in (None, "auto", ()):
                raise ValueError(f"{name}: only on GPUs; set gpus, or leave it out")
        for name in VLLM_ONLY:
            if name in self.model_fields_set and self.backend == "sglang":
                raise ValueError(f"{name}: only with backend vllm; leave it out")
        if self.cuda_graph_sizes and self.eager:
            raise ValueError("cuda_graph_sizes: enforce_eager records no graphs; leave one of the two out")
        batched = self.max_num_batched_tokens
        if batched is not None and batched < self.max_num_seqs:
            raise ValueError(f"max_num_batched_tokens: at least max_num_seqs ({self.max_num_seqs})")
        whole = not self.gpus or self.chunked_prefill is False
        if batched is not None and whole and batched < (self.max_model_len or 0):
            raise ValueError("max_num_batched_tokens: prompts are read whole here: at least max_model_len")
        return self

    @field_validator("engine_args")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        check(value)
        return value

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError("must be a whole number above 1 (tensor parallel), or at most 1 (a share of one GPU)")
        return value
