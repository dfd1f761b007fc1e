"""Runs a training stage: Ray Train's TorchTrainer around the loop, and what the driver does beside it."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa

from app.capacity import Need, watched
from app.errors import UserError
from app.lineage import lineage
from app.methods import find
from app.policy import START, Policy, base_facts, base_policy, trained_policy
from app.progress import Progress
from app.remote_folder import RemoteFile, TextFile, discard
from app.settings import ModelSettings
from app.stage import StageContext
from app.store import Output
from app.training import diagnostics
from app.training.dataset import Dataset, check_vocabulary, load
from app.training.job import Job
from app.training.metrics import Feed, Told, cut, read, totals
from app.training.monitor import Monitor
from app.training.sampler import sampler_for
from app.training.trackers import Trackers
from app.training.trials import Lost, Trials

POLL, REMOTE_POLL = 0.5, 2.0  # seconds between looks at a run's files, on a disk and in object storage


def run(context: StageContext) -> None:
    """Train and export the model of stage `training/METHOD`. A stopped run goes on from its last checkpoint."""
    if not context.pending(1):
        tidy(context)
        return
    if passed := context.inputs.get("start") if "dataset" not in context.inputs else None:
        pass_on(context, passed)
        return
    job = make_job(context)
    dataset = load(job.dataset, job.settings.max_length, job.settings)
    check_start(job, dataset)
    if job.settings.judged:
        import_module(context.stage.options["evaluator"]).check(context.recipe, context.inputs["held_out"])
    strange = diagnostics.of_data(dataset)
    if dataset.skipped:
        told = ", ".join(f"{count} {reason}" for reason, count in dataset.skipped.items())
        context.progress.say(f"rows left out: {told}")
    for sentence in strange.values():
        context.progress.say(f"warning: {sentence}")
    steps = sampler_for(job.settings, dataset.problems, job.seed).steps
    job.output.local().mkdir(parents=True, exist_ok=True)
    job.failure.unlink(missing_ok=True)
    train(context, job, steps)
    if job.failure.exists():
        raise UserError(job.failure.read_text())
    finish(context, job, dataset, list(strange))


def train(context: StageContext, job: Job, steps: int) -> None:
    """Run the workers to their end, and the evaluations of what they offer."""
    done = steps_done(job, context.progress)
    context.progress.begin(steps, reused=done, unit="steps")
    trackers = Trackers(job, done)
    trials = None
    if job.settings.judged:
        trials = Trials(job, context.progress, steps, lambda: RemoteEvaluator(context, job), trackers)
        job.candidates.stop.unlink(missing_ok=True)
    try:
        if trials and trials.over():
            return  # a stopped run had come to the end
        feed = RemoteFeed() if job.output.remote else None
        fit(job, Monitor(job, context.progress, done, steps, trackers, feed), trials)
        if trials and not job.failure.exists():
            place = context.recipe.placement.engines("evaluation")
            need = Need(1, place.cpus, place.gpus, place.labels)
            with watched(need, context.recipe.placement.named("evaluation"), context.progress.say):
                trials.finish()
    finally:
        if trials:
            trials.close()
        trackers.close()


def make_job(context: StageContext) -> Job:
    """The worker's orders, with paths that do not depend on where a process runs."""
    options = context.stage.options
    policy, reference = _policy(context, "start"), _policy(context, "reference")
    assert policy
    model: ModelSettings = options["start"] or context.recipe.model
    return Job(
        method=options["method"],
        dataset=_absolute(context.inputs["dataset"]),
        output=_absolute(context.output),
        policy=policy.path,
        fingerprint=policy.fingerprint,
        revision=model.revision if options["start"] and not Path(policy.path).is_dir() else None,
        trust_remote_code=model.trust_remote_code,
        settings=options["settings"],
        placement=context.recipe.placement.training,
        seed=context.recipe.seed,
        began=time.time(),
        start=base_facts(policy, context.inputs.get("start")),
        reference=reference,
        title=find(options["method"]).title,
        lineage=lineage(context.inputs["dataset"]),
    )


def _policy(context: StageContext, role: str) -> Policy | None:
    """The weights in a role: what a training stage wrote, or a model of the recipe; None where there is no such role.

    Their path does not depend on where a process runs.
    """
    model = context.stage.options[role]
    if role not in context.inputs and model is None:
        return None
    policy = base_policy(model) if model else trained_policy(context.inputs[role])
    return replace(policy, path=os.path.abspath(policy.path)) if Path(policy.path).is_dir() else policy


def _absolute(output: Output) -> Output:
    return output if "://" in output.root else replace(output, root=os.path.abspath(output.root))


def check_start(job: Job, dataset: Dataset) -> None:
    """Refuse data that the start weights or their tokenizer cannot know, before any worker starts."""
    if "://" not in job.policy and not Path(job.policy).is_dir():
        return  # a hub name: its files are on the workers only; the loop checks there
    config = json.loads(_model_file(job, "config.json").read_text())
    if "vocab_size" in config:
        check_vocabulary(dataset, int(config["vocab_size"]), f"the model {job.policy}")
    tokenizer = _model_file(job, "tokenizer.json")
    if tokenizer.is_file():
        from tokenizers import Tokenizer

        size = Tokenizer.from_str(tokenizer.read_text()).get_vocab_size()
        check_vocabulary(dataset, size, f"the tokenizer of {job.policy}")


def _model_file(job: Job, name: str) -> TextFile:
    """A file of the start weights, without the weights."""
    return RemoteFile(f"{job.policy}/{name}") if "://" in job.policy else Path(job.policy, name)


def steps_done(job: Job, progress: Progress) -> int:
    """Steps that are in the last complete checkpoint; the workers go on from there."""
    from app.training.checkpoint_store import checkpoint_store

    checkpoints = checkpoint_store(job.output)
    for address in checkpoints.damaged():
        progress.say(f"checkpoint {address} is incomplete, or a link leads out of it; it is not used")
    return max(checkpoints.complete(), default=0)


def preemption() -> float | None:
    """When the node of a worker will be taken away, in seconds since 1970; None while nothing is known. On every rank
    of a running worker group alike: asking is a barrier.
    """
    import ray.train

    notice = ray.train.get_preemption_info()
    if notice is None:
        return None
    return notice.deadline_ms / 1000 if notice.deadline_ms else math.inf


def fit(job: Job, monitor: Monitor, trials: Trials | None) -> None:
    """Run the workers to their end. In a thread of its own: on the main thread Ray Train would take over Ctrl+C for
    good.
    """
    import logging

    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig

    from app.training.worker import train_worker

    logging.getLogger("ray.train").setLevel(logging.WARNING)
    placement = job.placement
    resources: dict[str, float] = {"CPU": placement.cpus}
    if placement.gpus:
        resources["GPU"] = placement.gpus
    trainer = _trainer_class()(
        train_worker,
        train_loop_config={"job": job, "deadline": preemption, "feed": monitor.feed},
        torch_config=TorchConfig(backend="nccl" if placement.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=placement.workers,
            use_gpu=bool(placement.gpus),
            resources_per_worker=resources,
            label_selector=placement.labels or None,
        ),
        run_config=RunConfig(
            name=f"{job.name}-{job.output.key}",
            storage_path=f"{job.output.uri}/ray",
            failure_config=FailureConfig(max_failures=placement.max_failures),
        ),
    )
    error: list[BaseException] = []

    def fit_it() -> None:
        try:
            trainer.fit()
        except BaseException as caught:
            error.append(caught)

    need = Need(placement.workers, placement.cpus, placement.gpus, placement.labels)
    thread = threading.Thread(target=fit_it, name=f"fit-{job.name}", daemon=True)
    with watched(need, "placement.training", monitor.progress.say):
        thread.start()
        try:
            while thread.is_alive():
                thread.join(REMOTE_POLL if job.output.remote else POLL)
                monitor.look()
                if trials:
                    trials.look()
        except BaseException:
            if trials:
                job.candidates.stop.touch()  # the workers end at their next step
            raise
    monitor.look()
    discard(job.output, "ray")
    if error:
        raise RuntimeError(f"training/{job.name} failed {_times(placement.max_failures)}: {error[0]}") from error[0]


class RemoteFeed(Feed):
    """Rows on their way from rank 0 to the driver, where the metrics file is on no disk they share."""

    def __init__(self) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.actor = ray.remote(Told).options(num_cpus=0, scheduling_strategy=here).remote()

    def add(self, row: dict[str, float]) -> None:
        self.actor.add.remote(row)

    def after(self, step: int) -> list[dict[str, float]]:
        import ray

        return ray.get(self.actor.after.remote(step))


class RemoteEvaluator:
    """The evaluator that the stage's option `evaluator` names, in an actor with the room of a sampling engine."""

    def __init__(self, context: StageContext, job: Job) -> None:
        import ray

        place = context.recipe.placement.engines("evaluation")
        module = import_module(context.stage.options["evaluator"])
        labels = place.labels or None
        actor = ray.remote(module.HeldOut).options(num_cpus=place.cpus, num_gpus=place.gpus, label_selector=labels)
        given = module.arguments(context.recipe)
        self.actor = actor.remote(*given, context.inputs["held_out"], job.settings.evaluate_problems)
        self.result: Any = None

    def ask(self, path: str, fingerprint: str) -> None:
        self.result = self.actor.evaluate.remote(path, fingerprint)

    def answer(self, wait: bool) -> dict[str, Any] | None:
        import ray

        done, _ = ray.wait([self.result], timeout=None if wait else 0)
        if not done:
            return None
        try:
            return ray.get(self.result)
        except ray.exceptions.RayActorError as error:
            raise Lost(str(error)) from error
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise UserError(str(error.cause)) from error
            if getattr(error.cause, "restart_actor", False):
                raise Lost(str(error.cause)) from error
            raise

    def close(self) -> None:
        import ray

        ray.kill(self.actor)


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


def hand_on(context: StageContext, job: Job) -> None:
    """Make the stage's model the one it started from, by name: its weights are not copied."""
    if (start := context.inputs.get("start")) is not None:
        facts = {"stage": start.stage, "key": start.key}
    else:
        facts = {"path": job.policy, "fingerprint": job.fingerprint}
    context.output.write_json(START, facts)


def pass_on(context: StageContext, before: Output) -> None:
    """The same for a round that is not trained, because the one before kept its start."""
    context.output.write_json(START, {"stage": before.stage, "key": before.key})
    context.progress.say("the round before kept its start; this one keeps it too")
    context.output.write_shard(
        0, pa.table({"step": pa.array([], pa.int64()), "loss": pa.array([], pa.float64())}), {"kept_start": 1.0}
    )


def finish(context: StageContext, job: Job, dataset: Dataset, strange: list[str]) -> None:
    """Put the model where it belongs and write the metrics shard, which marks the stage done."""
    evaluations = job.candidates.rows() if job.settings.judged else []
    counts: dict[str, float] = {}
    if evaluations:
        best = job.candidates.promote(job.model)
        if not best["step"]:
            hand_on(context, job)
            counts["kept_start"] = 1.0
        cut(job.metrics, int(evaluations[-1]["step"]))  # steps that ran on while the last evaluation was under way
        counts |= {"model_step": float(best["step"]), "validation_accuracy": best["accuracy"]}
        which = f"that of step {best['step']}" if best["step"] else "the one it started from: no candidate is better"
        context.progress.say(f"the model is {which}: {best['accuracy']:.1%} on validation problems")
        job.output.write_shard(0, pa.Table.from_pylist(evaluations), kind="evaluations")
    rows = read(job.metrics)
    counts |= totals(job.metrics) | {"skipped": float(sum(dataset.skipped.values()))}
    counts |= {f"skipped_{reason}": float(count) for reason, count in dataset.skipped.items()}
    counts |= diagnostics.counts(rows, evaluations, strange)
    if "restarts" in counts:
        context.progress.say(
            f"{counts['restarts']:.0f} interruptions cost {counts['lost_seconds']:.1f} s "
            f"and {counts['redone_steps']:.0f} steps made again"
        )
    job.output.write_shard(0, pa.Table.from_pylist(rows), counts)
    tidy(context)


def tidy(context: StageContext) -> None:
    """Remove the checkpoints of a finished stage: with the optimiser's state they are several times the model."""
    if not context.recipe.placement.training.keep_checkpoints:
        discard(context.output, "checkpoints")
