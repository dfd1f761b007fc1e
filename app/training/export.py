"""Final weights as a folder that transformers and vLLM load: safetensors, configuration, tokenizer; or an adapter."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch.distributed as dist

from app.policy import BASE
from app.tokenizer import load_tokenizer
from app.training import adapters
from app.training.backend import Backend
from app.training.job import Job
from app.training.model import load_model


def export(engine: Backend, job: Job, folder: Path, card: str) -> None:
    """Write the model and its card whole or not at all. All ranks call it: under ZeRO 3 each holds a part of the
    weights.
    """
    state = engine.full_state()
    if dist.get_rank() == 0:
        assert state is not None
        temporary = folder.with_name(f".{folder.name}")
        shutil.rmtree(temporary, ignore_errors=True)
        lora = job.settings.lora
        if lora and not lora.merge:
            adapters.save(state, lora, job.policy, temporary)
            if job.start:
                (temporary / BASE).write_text(json.dumps(job.start))
        else:
            _whole(engine.module.model, state, job, temporary)
        (temporary / "README.md").write_text(card)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    dist.barrier()


def _whole(model: Any, state: dict[str, Any], job: Job, folder: Path) -> None:
    """Weights, adapters merged into them, configuration and tokenizer."""
    lora = job.settings.lora
    if lora and lora.keep:
        adapters.save(state, lora, job.policy, folder / "adapter")
    if lora:
        model, state = _plain(model, state, job)
    use_cache, model.config.use_cache = model.config.use_cache, True
    model.save_pretrained(folder, state_dict=state, safe_serialization=True)
    model.config.use_cache = use_cache
    load_tokenizer(job.weights(), job.revision, job.trust_remote_code).save_pretrained(folder)


def _plain(model: Any, state: dict[str, Any], job: Job) -> tuple[Any, dict[str, Any]]:
    """The model to save and its weights with what the adapters learned.

    4-bit weights are read again whole: merging into them would round what was learned away.
    """
    assert job.settings.lora
    if not job.settings.lora.quantize:
        return model, adapters.merged(model, state)
    whole = load_model(job, quantize=False)
    names = {name.replace(".base_layer.", "."): name for name in state if ".lora_" not in name}
    weights = {names[name]: value for name, value in whole.state_dict().items()}
    return whole, adapters.merged(model, {**state, **weights})
