"""Runs a training stage: Ray Train's TorchTrainer around the loop, progress on the console, metrics as a shard."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa

from app.errors import UserError
from app.policy import Policy, base_policy, trained_policy
from app.progress import Progress
from app.stage import StageContext
from app.store import Output
from app.training.corpus import Corpus, check_vocabulary, load
from app.training.job import Job
from app.training.metrics import cut, read
from app.training.order import order_for
from app.training.settings import TrainSettings

POLL = 0.5  # seconds between looks at the metrics file


def run(context: StageContext) -> None:
    """Train and export the model of stage `training/METHOD`. A stopped run goes on from its last checkpoint."""
    if not context.pending(1):
        return
    job = make_job(context)
    corpus = load(job.dataset, job.method, job.settings.max_length)
    check_start(job, corpus)
    if corpus.skipped:
        told = ", ".join(f"{count} {reason}" for reason, count in corpus.skipped.items())
        context.progress.say(f"rows left out: {told}")
    steps = order_for(job.settings, corpus.problems, job.seed).steps
    job.output.local().mkdir(parents=True, exist_ok=True)
    job.failure.unlink(missing_ok=True)
    done = start_over(job, context.progress)
    context.progress.begin(steps, reused=done, unit="steps")
    fit(job, Follower(job.metrics, context.progress, done))
    if job.failure.exists():
        raise UserError(job.failure.read_text())
    finish(context, job, corpus)


def make_job(context: StageContext) -> Job:
    """The worker's orders, with paths that do not depend on where a process runs."""
    method = context.stage.name.partition("/")[2]
    settings = getattr(context.recipe.training, method, None)
    if not isinstance(settings, TrainSettings):
        raise UserError(f"training.{method}: the recipe has no settings for stage {context.stage.name!r}")
    start = context.stage.options["policy"]
    model = context.recipe.model
    policy: Policy = base_policy(model) if start == "base" else trained_policy(context.inputs[start])
    is_folder = Path(policy.path).is_dir()
    return Job(
        method=method,
        dataset=_absolute(context.inputs[context.stage.options["dataset"]]),
        output=_absolute(context.output),
        policy=os.path.abspath(policy.path) if is_folder else policy.path,
        fingerprint=policy.fingerprint,
        revision=None if is_folder else model.revision,
        trust_remote_code=model.trust_remote_code,
        settings=settings,
        placement=context.recipe.placement.training,
        seed=context.recipe.seed,
    )


def _absolute(output: Output) -> Output:
    return output if "://" in output.root else dataclasses.replace(output, root=os.path.abspath(output.root))


def check_start(job: Job, corpus: Corpus) -> None:
    """Refuse data that the start weights or their tokenizer cannot know, before any worker starts."""
    folder = Path(job.policy)
    if not folder.is_dir():
        return  # a hub name: its files are on the workers only; the loop checks there
    config = json.loads((folder / "config.json").read_text())
    if "vocab_size" in config:
        check_vocabulary(corpus, int(config["vocab_size"]), f"the model {job.policy}")
    if (folder / "tokenizer.json").is_file():
        from tokenizers import Tokenizer

        size = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
        check_vocabulary(corpus, size, f"the tokenizer of {job.policy}")


def start_over(job: Job, progress: Progress) -> int:
    """Steps that are in the last complete checkpoint; metrics after it are dropped, because they will be made again."""
    from app.training import checkpoint

    folder = job.output.local("checkpoints")
    for path in checkpoint.damaged(folder):
        progress.say(f"checkpoint {path} is incomplete; it is not used")
    whole = checkpoint.complete(folder)
    done = checkpoint.step_of(whole[-1]) if whole else 0
    cut(job.metrics, done)
    return done


def fit(job: Job, follower: Follower) -> None:
    """Run the workers to their end. In a thread of its own: on the main thread Ray Train would take over Ctrl+C for
    good.
    """
    import logging

    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig

    from app.training.worker import train_worker

    logging.getLogger("ray.train").setLevel(logging.WARNING)
    placement, storage = job.placement, job.output.local("ray")
    resources: dict[str, float] = {"CPU": placement.cpus}
    if placement.gpus:
        resources["GPU"] = placement.gpus
    trainer = _trainer_class()(
        train_worker,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if placement.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=placement.workers, use_gpu=bool(placement.gpus), resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=f"{job.method}-{job.output.key}",
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=placement.max_failures),
        ),
    )
    error: list[BaseException] = []

    def fit_it() -> None:
        try:
            trainer.fit()
        except BaseException as caught:
            error.append(caught)

    thread = threading.Thread(target=fit_it, name=f"fit-{job.method}", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL)
        follower.look()
    follower.look()
    shutil.rmtree(storage, ignore_errors=True)
    if error:
        raise RuntimeError(f"training/{job.method} failed {_times(placement.max_failures)}: {error[0]}") from error[0]


def _trainer_class() -> type:
    """TorchTrainer; where Ray runs without a dashboard, less the actor that watches the controller through the
    dashboard.

    That actor cannot work there: it warns every second and outlives the run. Ray removes the workers' resources all
    the same when the job ends.
    """
    import ray
    from ray.train.torch import TorchTrainer
    from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

    class Trainer(TorchTrainer):
        def _create_default_callbacks(self) -> list[Any]:
            callbacks = super()._create_default_callbacks()
            if ray._private.worker.get_dashboard_url():
                return callbacks
            return [c for c in callbacks if not isinstance(c, PlacementGroupCleanerCallback)]

    return Trainer


def _times(retries: int) -> str:
    return "for good" if retries < 0 else f"{retries + 1} times" if retries else "once"


class Follower:
    """Turns new rows of the metrics file into progress."""

    def __init__(self, path: Path, progress: Progress, done: int) -> None:
        self.path, self.progress, self.seen = path, progress, done

    def look(self) -> None:
        """Tell of rows that were added. After a restart nothing is told until the run has passed where it had been."""
        for row in read(self.path):
            if row["step"] > self.seen:
                self.seen = int(row["step"])
                self.progress.advance(1, {"tokens": row["tokens"]})


def finish(context: StageContext, job: Job, corpus: Corpus) -> None:
    """Write the metrics shard, which marks the stage done."""
    rows = read(job.metrics)
    counts: dict[str, Any] = {
        "examples": float(sum(row["examples"] for row in rows)),
        "tokens": float(sum(row["tokens"] for row in rows)),
        "computed_tokens": float(sum(row["computed_tokens"] for row in rows)),
        "steps": float(len(rows)),
        "seconds": float(sum(row["seconds"] for row in rows)),
        "skipped": float(sum(corpus.skipped.values())),
    }
    counts |= {f"skipped_{reason}": float(count) for reason, count in corpus.skipped.items()}
    job.output.write_shard(0, pa.Table.from_pylist(rows), counts)
