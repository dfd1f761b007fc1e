"""Low-rank adapters by peft (LoRA, 2106.09685): put into a model, switched off, merged into weights, saved alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from app.errors import UserError
from app.training.settings import LoraSettings

NAME = "default"  # what peft calls the only adapter


def add(model: Any, settings: LoraSettings) -> None:
    """Put adapters beside the chosen linear layers; from then on only they are trained."""
    try:
        from peft import inject_adapter_in_model
    except ImportError as error:
        raise UserError("training with lora needs the package peft: pip install 'eightfold[lora]'") from error
    missing = [name for name in settings.target_modules if not any(_named(n, name) for n, _ in model.named_modules())]
    if missing:
        linear = sorted({n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)})
        raise UserError(f"lora.target_modules: the model has no layer {missing[0]!r}; it has {', '.join(linear)}")
    inject_adapter_in_model(_config(settings), model)


def _named(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")


def _config(settings: LoraSettings) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.target_modules) or "all-linear",
    )


@contextmanager
def without(model: torch.nn.Module) -> Iterator[None]:
    """The model as it was before the adapters. Not peft's own switch, which also stops their training."""
    layers = list(_layers(model).values())
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def _layers(model: torch.nn.Module) -> dict[str, Any]:
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def merged(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict of the model without adapters, their change added to the weights: W + alpha / r B A."""
    layers, out = _layers(model), {}
    for name, value in state.items():
        if ".lora_" in name:
            continue
        path, _, kind = name.replace(".base_layer.", ".").rpartition(".")
        if kind == "weight" and path in layers:
            down, up = (state[f"{path}.lora_{side}.{NAME}.weight"].float() for side in "AB")
            change = layers[path].scaling[NAME] * (up @ down)
            value = (value.float() + (change.T if layers[path].fan_in_fan_out else change)).to(value.dtype)
        out[f"{path}.{kind}"] = value
    return out


def save(state: dict[str, torch.Tensor], settings: LoraSettings, base: str, folder: Path) -> None:
    """The adapter alone, as peft loads it over `base`."""
    from safetensors.torch import save_file

    own = {name: value for name, value in state.items() if ".lora_" in name}
    folder.mkdir(parents=True)
    save_file(
        {f"base_model.model.{name.replace(f'.{NAME}.', '.')}": value.contiguous() for name, value in own.items()},
        folder / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    config = _config(settings)
    config.base_model_name_or_path, config.inference_mode = base, True
    config.target_modules = sorted({name.partition(".lora_")[0].rpartition(".")[2] for name in own})
    config.save_pretrained(str(folder))
