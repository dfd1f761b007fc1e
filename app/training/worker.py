"""The function Ray Train runs on each worker. Heavy imports happen here, not in the driver."""

from __future__ import annotations

from typing import Any

from app.errors import UserError
from app.training.job import Job


def train_worker(config: dict[str, Any]) -> None:
    """Train one job. A UserError is the same on every rank and would only repeat: it is left for the driver, not
    raised. One of storage that failed is this rank's own and may not repeat: Ray Train tries again.
    """
    job: Job = config["job"]
    import torch
    import torch.distributed as dist

    from app.training.dataset import load
    from app.training.loop import Trainer

    if job.placement.gpus:
        device = torch.device("cuda", torch.cuda.current_device())
    else:
        device = torch.device("cpu")
        torch.set_num_threads(max(1, int(job.placement.cpus)))
    try:
        dataset = load(job.dataset, job.settings.max_length, job.settings)
        Trainer(job, dataset, device, config["deadline"], config["feed"]).train()
    except UserError as error:
        if isinstance(error.__cause__, OSError):
            raise
        if dist.get_rank() == 0:
            job.failure.write_text(str(error))
