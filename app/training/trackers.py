"""Curves for those who watch runs elsewhere: TensorBoard, Weights & Biases, MLflow. Each is there only when asked for.

`placement.training.trackers` names them. They live in the driver and get the rows that metrics.jsonl gets; a run that
goes on continues its curves. Addresses and keys are the tools' own business (WANDB_API_KEY, MLFLOW_TRACKING_URI, ...).
"""

from __future__ import annotations

import importlib
import posixpath
import shutil
from collections.abc import Sequence
from typing import Any, Protocol

from app.errors import UserError
from app.remote_folder import Folder
from app.training.job import Job

NOT_CURVES = ("step", "time")
GROUPS = ("train", "validation")


class Board(Protocol):
    """Somewhere curves are shown."""

    def add(self, step: int, values: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in `tensorboard/` of the stage's folder; in object storage they arrive when the board is closed."""

    def __init__(self, job: Job, done: int) -> None:
        _needs("tensorboard", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self.output, self.folder = job.output, job.output.local("tensorboard")
        self.writer = SummaryWriter(str(self.folder), purge_step=done + 1 if done else None)

    def add(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()
        if self.output.remote:
            Folder(posixpath.join(self.output.uri, "tensorboard")).put(self.folder)
            shutil.rmtree(self.folder)


class WeightsAndBiases:
    """A run of project eightfold, whose id is the stage's key."""

    def __init__(self, job: Job, done: int) -> None:
        wandb = _needs("wandb", "wandb")
        self.run = wandb.init(
            project="eightfold",
            id=job.output.key,
            name=f"{job.name}-{job.output.key}",
            resume="allow",
            dir=str(job.output.local()),
            config=job.settings.model_dump(),
        )
        for group in GROUPS:  # each with its own steps: evaluations arrive when training is further on
            self.run.define_metric(f"{group}/*", step_metric=f"{group}/step")

    def add(self, step: int, values: dict[str, float]) -> None:
        groups = {name.partition("/")[0] for name in values}
        self.run.log(values | {f"{group}/step": step for group in groups})

    def close(self) -> None:
        self.run.finish()


class MLflow:
    """A run of experiment eightfold, found again by the stage's key."""

    def __init__(self, job: Job, done: int) -> None:
        mlflow = _needs("mlflow", "mlflow")
        self.mlflow = mlflow
        mlflow.set_experiment("eightfold")
        key = job.output.key
        known = mlflow.search_runs(filter_string=f"tags.eightfold_key = '{key}'", output_format="list")
        if known:
            self.run = mlflow.start_run(run_id=known[0].info.run_id)
        else:
            self.run = mlflow.start_run(run_name=f"{job.name}-{key}", tags={"eightfold_key": key})
            mlflow.log_params(job.settings.model_dump())

    def add(self, step: int, values: dict[str, float]) -> None:
        self.mlflow.log_metrics(values, step=step)

    def close(self) -> None:
        self.mlflow.end_run()


BOARDS: dict[str, type[Any]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "mlflow": MLflow}


def _needs(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"placement.training.trackers: {package} is not installed here ({error}); "
            f"pip install {package}, or take it off the list"
        ) from error


class Trackers:
    """All that the placement asks for, after `done` steps of an earlier attempt."""

    def __init__(self, job: Job, done: int) -> None:
        self.trackers: Sequence[Board] = [BOARDS[name](job, done) for name in job.placement.trackers]

    def add(self, row: dict[str, Any], group: str = "train") -> None:
        """One row of metrics; names become group/name."""
        values = {f"{group}/{name}": float(value) for name, value in row.items() if name not in NOT_CURVES}
        for board in self.trackers:
            board.add(int(row["step"]), values)

    def close(self) -> None:
        for board in self.trackers:
            board.close()
