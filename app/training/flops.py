"""Floating point operations a training token costs, and what devices can do: for model FLOPs utilisation (MFU)."""

from __future__ import annotations

from typing import Any

import torch

# Dense bf16 or fp16 peak of one device in TFLOP/s, from the makers' data sheets; the first name found decides.
PEAKS = {
    "B200": 2250.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "A10G": 70.0,
    "A10": 125.0,
    "V100": 125.0,
    "T4": 65.0,
}


def peak(device: torch.device, given: float | None) -> float | None:
    """Peak of one worker's device in FLOP/s: what `placement.training.peak_tflops` says, or the table; else None."""
    if given is not None:
        return given * 1e12
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((value * 1e12 for known, value in PEAKS.items() if known in name), None)


class TokenCost:
    """FLOPs of forward and backward a token (Kaplan et al. 2020, 2001.08361; PaLM, 2204.02311, appendix B).

    2 a weight forward, 2 a weight for the gradient of activations, 2 a trained weight for its own gradient; input
    embeddings are looked up, not multiplied. Attention adds 6 * layers * width a token of mean context (half a
    sequence, as it is causal). Computing activations again under gradient checkpointing does not count.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        config: Any = model.config
        text = config.get_text_config() if hasattr(config, "get_text_config") else config
        all_weights = sum(_size(p) for p in model.parameters())
        trained = sum(_size(p) for p in model.parameters() if p.requires_grad)
        inputs, head = model.get_input_embeddings(), model.get_output_embeddings()
        looked_up = 0 if head is None or head.weight is inputs.weight else _size(inputs.weight)
        self.weights = 4 * (all_weights - looked_up) + 2 * max(0, trained - looked_up)
        self.attention = 6 * text.num_hidden_layers * text.hidden_size

    def flops(self, tokens: float, length: float) -> float:
        """Of `tokens` tokens in sequences of `length` tokens on average."""
        return tokens * (self.weights + self.attention * length)


def _size(parameter: torch.nn.Parameter) -> int:
    return int(getattr(parameter, "ds_numel", parameter.numel()))  # ds_numel: the whole weight under ZeRO 3
