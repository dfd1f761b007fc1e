"""What models take of GPUs' memory, from their configuration alone: for `--plan`, before anything is loaded.

Engines: weights, and what is left for the cache of keys and values. Training: weights, gradients and the optimiser's
state, cut up as ZeRO cuts them; activations of one micro-batch at most. Fragments, CUDA itself (about 1 GiB) and what
libraries hold are not in them: estimates.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.policy import WORLD_MODEL
from app.recipe import EngineRole, Recipe
from app.sampling.settings import EnginePlacement
from app.settings import ModelSettings
from app.stage import Stage
from app.training.settings import LoraSettings, PreferenceSettings, TrainPlacement, TrainSettings

GIB = 2**30
LAYER = 34  # bytes of activations a token, layer and unit of width in bf16 (2205.05198, with attention in blocks)


@dataclass(frozen=True)
class Shape:
    """A decoder of the usual kind: gated MLP, grouped heads."""

    width: int
    inner: int
    layers: int
    heads: int
    key_heads: int
    head: int  # width of one
    vocabulary: int
    tied: bool

    @property
    def linear(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of a layer's linear maps."""
        q, kv = self.heads * self.head, self.key_heads * self.head
        attention = ((self.width, q), (self.width, kv), (self.width, kv), (q, self.width))
        return (*attention, (self.width, self.inner), (self.width, self.inner), (self.inner, self.width))

    @property
    def weights(self) -> int:
        """How many, biases of attention left out."""
        layer = sum(a * b for a, b in self.linear) + 2 * self.width
        return self.layers * layer + self.vocabulary * self.width * (1 if self.tied else 2) + self.width

    @property
    def cache(self) -> int:
        """Values of a token in an engine's cache."""
        return 2 * self.layers * self.key_heads * self.head

    def adapters(self, lora: LoraSettings) -> int:
        """Weights of adapters beside all linear maps."""
        return self.layers * sum(lora.r * (a + b) for a, b in self.linear)


def shape_of(model: ModelSettings) -> Shape | None:
    """From config.json of a folder or of this machine's copy of a hub's model; None where neither is here, or it is of
    another kind.
    """
    path = WORLD_MODEL if model.path == "world" else Path(model.path)
    file: Any = path / "config.json"
    if not file.is_file():
        from huggingface_hub import try_to_load_from_cache

        if "://" in model.path:
            return None
        file = try_to_load_from_cache(model.path, "config.json", revision=model.revision)
        if not isinstance(file, str):
            return None
    body = json.loads(Path(file).read_text())
    try:
        heads, width = body["num_attention_heads"], body["hidden_size"]
        return Shape(
            width,
            body["intermediate_size"],
            body["num_hidden_layers"],
            heads,
            body.get("num_key_value_heads") or heads,
            body.get("head_dim") or width // heads,
            body["vocab_size"],
            body.get("tie_word_embeddings", False),
        )
    except KeyError:
        return None


def engine(shape: Shape, place: EnginePlacement, gpu_gib: float | None) -> str:
    """What an engine's GPU holds, in words."""
    number = 1 if place.quantization else 4 if place.dtype == "float32" else 2
    cached = 1 if place.kv_cache_dtype == "fp8" else number if not place.quantization else 2
    ranks = max(1, int(place.gpus))
    weights, token = shape.weights * number / ranks, shape.cache * cached / ranks
    said = f"weights {weights / GIB:.1f} GiB a GPU, cache {token / 1024:.0f} KiB a token"
    if gpu_gib is None:
        return said
    room = gpu_gib * place.memory * GIB - weights
    if room <= 0:
        return f"{said}: does not fit {gpu_gib * place.memory:.0f} GiB"
    tokens = room / token
    said = f"{said}, room for {tokens:,.0f} tokens"
    if place.max_model_len:
        full = tokens / place.max_model_len
        said += f": {full:,.0f} sequences of {place.max_model_len:,} at once, where {place.max_num_seqs} are asked for"
    return said


def training(shape: Shape, settings: TrainSettings, place: TrainPlacement, branches: int, gpu_gib: float | None) -> str:
    """What a training worker's GPU holds, in words; `branches` sequences an example at most."""
    half, lora = settings.precision == "bf16", settings.lora
    trained = shape.adapters(lora) if lora else shape.weights
    frozen = shape.weights * (0.5 if lora.quantize else 2 if half else 4) if lora else 0.0
    cut = [1 if place.zero_stage < stage else place.workers for stage in (1, 2, 3)]
    summed = 4 if not half or place.zero_stage >= 2 or place.backend == "torch" else 2
    state = (2 if settings.optimizer == "adamw_8bit" else 8) + (4 if half else 0)
    held = trained * (2 if half else 4) / cut[2] + frozen / cut[2]
    optimiser = 0.0 if place.offload else trained * state / cut[0]
    gradients = trained * summed / cut[1]
    most = settings.micro_batch_tokens or settings.micro_batch * branches * settings.max_length
    tokens = most / place.sequence_parallel
    per = LAYER if half else 2 * LAYER
    layers = 1 + 2 * shape.layers / LAYER if settings.gradient_checkpointing else shape.layers
    activations = 0.0 if place.activation_offload else tokens * shape.width * per * layers
    total = (held + gradients + optimiser + activations) / GIB
    said = (
        f"weights {held / GIB:.1f}, gradients {gradients / GIB:.1f}, optimiser {optimiser / GIB:.1f}, "
        f"activations at most {activations / GIB:.1f}: {total:.1f} GiB a worker"
    )
    if gpu_gib is None:
        return said
    return f"{said}, {'fits' if total < 0.95 * gpu_gib else 'DOES NOT FIT'} {gpu_gib:g} GiB"


def lines(recipe: Recipe, stages: list[Stage]) -> list[str]:
    """Parameters and memory of the stages that hold a model; those of a kind that need the same share a line."""
    found: dict[tuple[str, str], list[str]] = {}
    for stage in stages:
        if said := _needs(recipe, stage):
            found.setdefault((stage.kind, said), []).append(stage.subject)
    return [
        "memory, estimated from the models' configurations:",
        *(f"    {kind}{'/' * any(names)}{', '.join(names)}: {said}" for (kind, said), names in found.items()),
    ]


def _needs(recipe: Recipe, stage: Stage) -> str:
    """In words; empty for a stage without a model."""
    place = recipe.placement
    model: ModelSettings = stage.options.get("policy") or stage.options.get("start") or recipe.model
    if stage.kind == "synthesis" and recipe.synthesis and recipe.synthesis.writer.kind == "vllm":
        model = recipe.synthesis.writer.weights
    elif stage.kind not in ("sampling", "credit", "evaluation", "training"):
        return ""
    shape = shape_of(model)
    if shape is None:
        return f"{model.path}: its configuration is not on this machine, so its size is not known"
    if stage.kind == "training":
        settings: TrainSettings = stage.options["settings"]
        branches = 2 if isinstance(settings, PreferenceSettings) else 1
        said = training(shape, settings, place.training, branches, place.gpu_gib)
    else:
        roles: dict[str, EngineRole] = {"synthesis": "writer", "evaluation": "evaluation"}
        said = engine(shape, place.engines(roles.get(stage.kind, "sampling")), place.gpu_gib)
    size = f"{shape.weights / 1e9:.3g}B" if shape.weights >= 1e7 else f"{shape.weights / 1e6:.3g}M"
    return f"{size} parameters, {said}"
