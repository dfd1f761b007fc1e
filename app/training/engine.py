"""The model on a worker: loaded, wrapped, and given to DeepSpeed."""

from __future__ import annotations

import logging
import math
import os
from importlib.util import find_spec
from typing import Any

import torch
import torch.distributed as dist

from app.errors import UserError
from app.records import seed_from
from app.training import adapters, attention
from app.training.forward import TokenLogProbs, attention_for, check_head, check_tree
from app.training.job import Job
from app.training.sequence import WHERE, team

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


class ClippedAdamW(torch.optim.AdamW):
    """AdamW that clips and remembers the gradient norm, and takes no step where that is not finite: DeepSpeed does so
    itself except for ZeRO 0 in float32.
    """

    def __init__(self, *args: Any, clip: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clip = clip
        self._global_grad_norm = 0.0  # the names DeepSpeed's engine looks for
        self.overflow = False

    def step(self, closure: Any = None) -> Any:
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        self._global_grad_norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.clip))
        self.overflow = not math.isfinite(self._global_grad_norm)
        return None if self.overflow else super().step(closure)


def deepspeed_config(job: Job, plain: bool) -> dict[str, Any]:
    """DeepSpeed's settings. The loop owns accumulation, loss scaling and the learning rate."""
    zero: dict[str, Any] = {"stage": job.placement.zero_stage}
    if job.placement.zero_stage:
        zero |= {"overlap_comm": False, "contiguous_gradients": True}
    if job.placement.offload:
        if not job.placement.zero_stage:
            raise UserError("placement.training.offload: needs placement.training.zero_stage 1, 2 or 3")
        zero["offload_optimizer"] = {"device": "cpu"}
        if job.placement.zero_stage == 3:
            zero["offload_param"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": 1,  # required; the true sizes vary and are the loop's business
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": 0.0 if plain else job.settings.max_grad_norm,
        "bf16": {"enabled": job.settings.precision == "bf16"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": None,
    }


def build(job: Job, device: torch.device) -> Any:
    """A DeepSpeed engine around TokenLogProbs with the start weights."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    os.environ.setdefault("DS_ACCELERATOR", "cpu" if device.type == "cpu" else "cuda")
    import deepspeed
    from transformers.integrations import HfDeepSpeedConfig

    # DeepSpeed would compile a shared-memory all-reduce for CPUs at the first start (over a minute); gloo serves.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

    plain = job.placement.zero_stage == 0 and job.settings.precision == "fp32"
    config = deepspeed_config(job, plain)
    # While this object lives, from_pretrained() gives each worker only its part of the weights under ZeRO 3.
    sharded = HfDeepSpeedConfig(config) if job.placement.zero_stage == 3 else None
    model = load_model(job)
    del sharded
    if job.settings.lora:
        torch.manual_seed(seed_from("adapters", job.seed))
        adapters.add(model, job.settings.lora)
    if job.settings.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    attention.register()
    kind, why_not = attention_for(model, device, job.settings.max_length)
    mates = team(job.placement.sequence_parallel)
    mates.check(model.config.get_text_config())
    forward = TokenLogProbs(model, kind, mates)
    rates: dict[str, Any] = {
        "lr": job.settings.learning_rate,
        "weight_decay": job.settings.weight_decay,
        "betas": (0.9, 0.95),
    }
    engine, *_ = deepspeed.initialize(
        model=forward,
        model_parameters=[p for p in forward.parameters() if p.requires_grad],
        optimizer=_optimizer(job, rates, plain),
        config=config,
        dist_init_required=False,
    )
    engine.eval()
    check_head(engine.module, device)
    if kind != "plain" and (why_not := check_tree(engine.module, device)):
        engine.module.attention = "plain"
    if why_not and mates.size > 1:
        raise UserError(f"{WHERE}: not with this model: {why_not}")
    if why_not and dist.get_rank() == 0:
        print(f"training/{job.name}: sequences are computed one by one, not over shared trunks: {why_not}", flush=True)
    return engine


def _optimizer(job: Job, rates: dict[str, Any], plain: bool) -> Any:
    """A function from parameters to an optimizer. DeepSpeed's own CPU Adam is compiled on first use: only for
    offload.
    """
    if job.placement.offload:
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        return lambda parameters: DeepSpeedCPUAdam(parameters, **rates)
    if plain:
        return lambda parameters: ClippedAdamW(parameters, clip=job.settings.max_grad_norm, fused=True, **rates)
    return lambda parameters: torch.optim.AdamW(parameters, fused=True, **rates)


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
