"""progress.json at the run's root: what the run is doing now, for people and programs that watch it.

Written whole or not at all, every few seconds, by the driver. It is a view of the files, never read by the run itself;
after a kill it stays as it was, and `updated` tells its age.
"""

from __future__ import annotations

import datetime
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from app.cost import cost, held, money, total
from app.errors import UserError
from app.plan import Step
from app.progress import Progress
from app.recipe import Recipe
from app.stage_timings import Session, read, totals
from app.store import Output

FILE = "progress.json"
LOCAL, REMOTE = 5.0, 60.0  # seconds between writes: to a disk, to object storage


class OverBudget(UserError):
    """The run has cost what `prices.budget` allows."""


class RunStatus:
    """Keeps progress.json and the sessions of the stages that run; a context of the whole run. It writes while `held`
    says that the run is still this job's.
    """

    def __init__(
        self,
        recipe: Recipe,
        root: str,
        steps: list[Step],
        interval: float | None = None,
        held: Callable[[], bool] = lambda: True,
    ) -> None:
        self.recipe, self.root, self.held = recipe, Output(root, "", ""), held
        self.interval = interval if interval is not None else (REMOTE if "://" in root else LOCAL)
        self.started, self.begun = _now(), time.monotonic()
        self.running: dict[str, tuple[Session, Progress]] = {}
        self.stages: dict[str, dict[str, Any]] = {step.stage.name: self._known(step) for step in steps}
        self.state = "running"
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._failed = False
        self._thread = threading.Thread(target=self._keep, name="journal", daemon=True)

    def __enter__(self) -> RunStatus:
        self.write()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        whole = all(stage["state"] in ("done", "left out") for stage in self.stages.values())
        stopped = kind in (KeyboardInterrupt, OverBudget) or (kind is None and not whole)
        self.state = "stopped" if stopped else "failed" if kind is not None else "done"
        self.write()

    def stopped(self) -> None:
        """The run is being stopped from outside: leave that word in the file."""
        self._ended.set()
        self.state = "stopped"
        self.write()

    def check_budget(self) -> None:
        """Raise OverBudget where all sessions of the run's stages together have cost `prices.budget`."""
        prices = self.recipe.prices
        if prices is None or prices.budget is None:
            return
        with self._lock:
            spent = total(stage["cost"] for stage in self._known_now().values())
        if spent is not None and spent >= prices.budget:
            raise OverBudget(
                f"the run has cost {money(spent, prices.currency)} of the {money(prices.budget, prices.currency)} that "
                "prices.budget allows; what is finished is safe: raise it and run the same command to go on"
            )

    def begin(self, step: Step, progress: Progress) -> Session:
        """A stage starts; its session is written at once, so that a kill a second later leaves a trace."""
        session = Session(step.output, held(self.recipe, step.stage.name))
        self._save(session)
        with self._lock:
            self.running[step.stage.name] = (session, progress)
        self.write()
        return session

    def end(self, step: Step, state: str) -> None:
        """A stage is done or failed."""
        name = step.stage.name
        with self._lock:
            session, progress = self.running.pop(name)
            session.close()
            self.stages[name] = self._live(name, session, progress) | {"state": state}
        self._save(session)
        self.write()

    def done(self) -> tuple[int, int]:
        """Stages that are done or not needed any more, and all."""
        with self._lock:
            return sum(stage["state"] in ("done", "left out") for stage in self.stages.values()), len(self.stages)

    def leave_out(self, step: Step) -> None:
        """A stage is not needed any more."""
        with self._lock:
            self.stages[step.stage.name] |= {"state": "left out"}
        self.write()

    def write(self) -> None:
        """Write progress.json now."""
        if not self.held():
            return
        with self._lock:
            stages = self._known_now()
            prices = self.recipe.prices
            body = {
                "run": self.recipe.name,
                "state": self.state,
                "started": self.started,
                "updated": _now(),
                "seconds": round(time.monotonic() - self.begun, 1),
                "currency": prices.currency if prices else None,
                "cost": total(stage["cost"] for stage in stages.values()),
                "stages": stages,
            }
            self.root.write_json(FILE, body)

    def _known_now(self) -> dict[str, dict[str, Any]]:
        """What is known of every stage, those that run included. Called with the lock held."""
        return self.stages | {name: self._live(name, *pair) for name, pair in self.running.items()}

    def _save(self, session: Session) -> None:
        if self.held():
            session.save()

    def _keep(self) -> None:
        """Until the end: sessions and progress.json, again and again. A full disk ends the stage, not this thread."""
        while not self._ended.wait(self.interval):
            try:
                with self._lock:
                    sessions = [session for session, _ in self.running.values()]
                for session in sessions:
                    self._save(session)
                self.write()
                self._failed = False
            except UserError as error:
                if not self._failed:
                    print(f"progress.json: {error}", file=sys.stderr, flush=True)
                self._failed = True

    def _live(self, name: str, session: Session, progress: Progress) -> dict[str, Any]:
        entries = totals(session.entries())
        spent = cost(self.recipe.prices, name, entries["cpu_seconds"], entries["gpu_seconds"])
        return {"state": "running", "key": session.output.key, **progress.snapshot(), **entries, "cost": spent}

    def _known(self, step: Step) -> dict[str, Any]:
        """What is known of a stage before it runs: all of one that is done, little of another."""
        body: dict[str, Any] = {"state": "pending", "key": step.output.key, "done": step.shards, "cost": None}
        if step.state == "left out":
            body |= {"state": "left out"}
        if step.state == "done":
            told = step.output.manifest()
            body |= {"state": "done", "done": told["shards"], "total": told["shards"], "unit": "shards"}
            body["counts"] = told["counts"]
        if entries := read(step.output):
            held_so_far = totals(entries)
            cpu, gpu = held_so_far["cpu_seconds"], held_so_far["gpu_seconds"]
            body |= held_so_far | {"cost": cost(self.recipe.prices, step.stage.name, cpu, gpu)}
        return body


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
