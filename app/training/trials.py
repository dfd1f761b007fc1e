"""Evaluations beside a training: the driver hands each candidate to an evaluator and notes what comes back.

Training never waits. Where the cluster has no room for an engine beside the workers, the evaluator waits in Ray's queue
and answers when they are done. An evaluator with nothing to do is let go after IDLE seconds, so that workers that start
again find the room they had.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from app.errors import UserError
from app.progress import Progress
from app.training.candidates import Row
from app.training.diagnostics import Watch
from app.training.job import Job
from app.training.trackers import Trackers

IDLE = 30.0  # seconds
ATTEMPTS = 3  # evaluators that may be lost over one candidate


class Lost(RuntimeError):
    """The evaluator is gone: its node, its process or its engine."""


class Evaluator(Protocol):
    """An actor somewhere. `ask` begins an evaluation, `answer` is its result or None while it is under way."""

    def ask(self, path: str, fingerprint: str) -> None: ...

    def answer(self, wait: bool) -> Row | None: ...

    def close(self) -> None: ...


class Trials:
    """One candidate at a time, in the order of steps."""

    def __init__(
        self, job: Job, progress: Progress, steps: int, start: Callable[[], Evaluator], trackers: Trackers
    ) -> None:
        self.job, self.progress, self.steps, self.start, self.trackers = job, progress, steps, start, trackers
        self.candidates = job.candidates
        self.evaluator: Evaluator | None = None
        self.asked: int | None = None  # the step under evaluation
        self.lost = 0
        self.last = time.monotonic()
        self.watch = Watch()

    def over(self) -> bool:
        """Whether the rows there are decide the run: no more training or evaluation is needed."""
        rows = self.candidates.rows()
        _, stopped = self.candidates.chosen()
        return stopped is not None or any(row["step"] == self.steps for row in rows)

    def look(self, wait: bool = False) -> bool:
        """Collect what is done and hand out what is next; False where there is nothing to wait for."""
        if self.asked is not None and not self._collect(wait):
            return True
        step = None if self.over() else self.candidates.next()
        if step is None:
            if self.evaluator and time.monotonic() - self.last > IDLE:
                self.close()
            return False
        self.evaluator = self.evaluator or self.start()
        self.evaluator.ask(self.candidates.address(step), f"{self.job.output.key}@{step}")
        self.asked, self.last = step, time.monotonic()
        return True

    def _collect(self, wait: bool) -> bool:
        """Note the answer, if it is there. A lost evaluator is replaced, and asked the same again."""
        assert self.evaluator and self.asked is not None
        try:
            answer = self.evaluator.answer(wait)
        except Lost as error:
            step, self.lost = self.asked, self.lost + 1
            self.close()
            if self.lost >= ATTEMPTS:
                raise UserError(
                    f"training/{self.job.name}: evaluating step {step} failed {ATTEMPTS} times: {error}"
                ) from error
            return True
        if answer is None:
            return False
        row = {"step": self.asked, **answer}
        self.asked, self.lost, self.last = None, 0, time.monotonic()
        self.candidates.add(row)
        self.trackers.add(row, "validation")
        self.progress.say(
            f"step {row['step']}: {row['accuracy']:.1%} of {row['judged']:.0f} validation problems right, greedily"
        )
        if warning := self.watch.evaluation(self.candidates.rows()):
            self.progress.say(warning)
        return True

    def finish(self) -> None:
        """Wait for the candidates that training left behind."""
        if self.asked is not None or self.candidates.next() is not None:
            self.progress.say("training is over; its last evaluations are not")
        while self.look(wait=True):
            pass

    def close(self) -> None:
        """Let the evaluator go, with what it was asked."""
        if self.evaluator:
            self.evaluator.close()
        self.evaluator = self.asked = None
