"""PyTorch alone as the Backend of training: `placement.training.backend: torch`.

For one GPU, or a few with a whole copy of the model each, where DeepSpeed is not installed or not wanted: a model with
its optimizer state takes 18 bytes a weight in bf16 and 16 in float32. Weights in bf16 have a float32 copy that the
optimizer changes, and gradients are summed in float32.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from app.training.backend import Facts
from app.training.forward import TokenLogProbs
from app.training.job import Job
from app.training.optimizer import groups, kind_of

FILE = "state.pt"


class TorchBackend:
    """AdamW around the model; see app/training/backend.py for what each method is."""

    def __init__(self, module: TokenLogProbs, job: Job, device: torch.device) -> None:
        quantized = job.settings.lora is not None and job.settings.lora.quantize  # put on its device by bitsandbytes
        self.module = module if quantized else module.to(device)
        self.precision, self.clip = job.settings.precision, job.settings.max_grad_norm
        self.trained = [p for p in module.parameters() if p.requires_grad]
        self.masters = [self._master(p) for p in self.trained]
        kind, how = kind_of(job)
        self.optimizer = kind(groups(self.masters, job.settings.weight_decay), **how)
        self.eval()

    def _master(self, parameter: torch.nn.Parameter) -> torch.Tensor:
        """What the optimizer changes in a weight's place, and where its gradients are summed; float32."""
        if parameter.dtype == torch.float32:
            return parameter
        master = parameter.detach().float()
        master.grad = torch.zeros_like(master)

        def add(own: torch.Tensor) -> None:
            assert master.grad is not None and own.grad is not None
            master.grad += own.grad
            own.grad = None

        parameter.register_post_accumulate_grad_hook(add)
        return master

    def __call__(self, **tensors: torch.Tensor) -> torch.Tensor:
        logps: torch.Tensor = self.module(**tensors)
        return logps

    def train(self) -> None:
        self.module.train()

    def eval(self) -> None:
        self.module.eval()

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def step(self, rate: float) -> float:
        for master in self.masters:
            if master.grad is None:  # nothing of this step went through it
                master.grad = torch.zeros_like(master)
            if dist.get_world_size() > 1:
                dist.all_reduce(master.grad)
        norm = float(torch.nn.utils.clip_grad_norm_(self.masters, self.clip))
        if math.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            self._follow()
        self.optimizer.zero_grad(set_to_none=False)
        return norm

    def _follow(self) -> None:
        """Give the weights what their float32 copies have."""
        with torch.no_grad():
            for parameter, master in zip(self.trained, self.masters, strict=True):
                if master is not parameter:
                    parameter.copy_(master)

    def layout(self) -> Facts:
        return {"world": dist.get_world_size(), "backend": "torch", "precision": self.precision}

    def alike(self, then: Facts) -> bool:
        return True  # one file, for any number of workers

    def write(self, folder: Path) -> None:
        if dist.get_rank() == 0:
            weights = [master.detach() for master in self.masters]
            torch.save({"weights": weights, "optimizer": self.optimizer.state_dict()}, folder / FILE)

    def join(self, source: Path, target: Path) -> None:
        raise NotImplementedError("checkpoints of this backend are whole")

    def read(self, folder: Path, joined: bool) -> None:
        device = self.masters[0].device
        state: dict[str, Any] = torch.load(folder / FILE, map_location=device, weights_only=True)
        with torch.no_grad():
            for master, value in zip(self.masters, state["weights"], strict=True):
                master.copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self._follow()

    def full_state(self) -> dict[str, torch.Tensor] | None:
        if dist.get_rank() != 0:
            return None
        return {name.removeprefix("model."): value.detach().cpu() for name, value in self.module.state_dict().items()}

    def close(self) -> None:
        self.masters, self.trained = [], []
        del self.optimizer, self.module
