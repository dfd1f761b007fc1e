"""The model on a worker: loaded, wrapped, checked, and given to the backend that trains it."""

from __future__ import annotations

from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

import torch
import torch.distributed as dist

from app.errors import UserError
from app.records import seed_from
from app.training import adapters, attention
from app.training.backend import Backend
from app.training.deepspeed_backend import DeepSpeedBackend, loading
from app.training.forward import TokenLogProbs, attention_for, check_head, check_tree
from app.training.job import Job
from app.training.sequence import WHERE, team
from app.training.torch_backend import TorchBackend

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def build(job: Job, device: torch.device) -> Backend:
    """TokenLogProbs with the start weights, in evaluation mode, ready to be trained. All ranks call it."""
    plain = job.placement.backend == "torch"
    with nullcontext() if plain else loading(job, device):
        model = load_model(job)
    if job.settings.lora:
        torch.manual_seed(seed_from("adapters", job.seed))
        adapters.add(model, job.settings.lora)
    if job.settings.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if job.placement.compile:
        compile_layers(model)
    attention.register()
    kind, why_not = attention_for(model, device, job.settings.max_length)
    mates = team(job.placement.sequence_parallel)
    mates.check(model.config.get_text_config())
    chosen = TorchBackend if plain else DeepSpeedBackend
    if job.placement.activation_offload and job.settings.gradient_checkpointing:
        raise UserError(
            f"runs.{job.name}: placement.training.activation_offload has nothing to move beside "
            "gradient_checkpointing; leave one of the two out"
        )
    backend: Backend = chosen(TokenLogProbs(model, kind, mates, job.placement.activation_offload), job, device)
    check_head(backend.module, device)
    if kind != "plain" and (why_not := check_tree(backend.module, device)):
        backend.module.attention = "plain"
    if why_not and mates.size > 1:
        raise UserError(f"{WHERE}: not with this model: {why_not}")
    if why_not and dist.get_rank() == 0:
        print(f"training/{job.name}: sequences are computed one by one, not over shared trunks: {why_not}", flush=True)
    return backend


def compile_layers(model: Any) -> None:
    """torch.compile for each layer, which all run the same code: it is compiled once, for any length of rows."""
    layers = getattr(model.base_model, "layers", None)
    if not layers:
        raise UserError(f"placement.training.compile: {type(model).__name__} has no list of layers; leave it out")
    for layer in layers:
        layer.compile(dynamic=True)


def load_model(job: Job, quantize: bool | None = None) -> Any:
    """The start weights in the run's precision, or with QLoRA in 4 bits unless told otherwise."""
    from transformers import AutoModelForCausalLM

    lora = job.settings.lora
    quantize = bool(lora and lora.quantize) if quantize is None else quantize
    model = AutoModelForCausalLM.from_pretrained(
        job.weights(),
        revision=job.revision,
        dtype=DTYPES[job.settings.precision],
        trust_remote_code=job.trust_remote_code,
        use_safetensors=True,  # never a pickle
        **(_four_bits(job) if quantize else {}),
    )
    model.config.use_cache = False
    return model


def _four_bits(job: Job) -> dict[str, Any]:
    """QLoRA's quantisation (2305.14314): normal floats of 4 bits, their scales quantised too."""
    from transformers import BitsAndBytesConfig

    where = f"runs.{job.name}.lora.quantize"
    if not job.placement.gpus:
        raise UserError(f"{where}: needs a GPU (placement.training.gpus); on CPUs leave it out")
    if find_spec("bitsandbytes") is None:
        raise UserError(f"{where}: needs the package bitsandbytes on every training worker: pip install bitsandbytes")
    if job.placement.zero_stage == 3:
        raise UserError(f"{where}: not with placement.training.zero_stage 3, which would cut up 4-bit weights; use 2")
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=DTYPES[job.settings.precision],
    )
    return {"quantization_config": config, "device_map": {"": torch.cuda.current_device()}}
