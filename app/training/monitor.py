"""What the driver does with new rows of the metrics file: progress, warnings, trackers, gauges."""

from __future__ import annotations

from app.progress import Progress
from app.training.diagnostics import Watch
from app.training.job import Job
from app.training.metrics import Feed, read
from app.training.trackers import Trackers

SHOWN = ("loss", "accuracy", "margin", "grad_norm")
LINES = 10  # lines with metrics a run


class Monitor:
    """Rows of this attempt only: a step that an earlier one made is not told again. They come from `feed`, or without
    that from the metrics file.
    """

    def __init__(
        self, job: Job, progress: Progress, done: int, steps: int, trackers: Trackers, feed: Feed | None = None
    ) -> None:
        self.job, self.progress, self.seen, self.trackers, self.feed = job, progress, done, trackers, feed
        self.every = max(1, steps // LINES)
        self.watch = Watch()

    def look(self) -> list[dict[str, float]]:
        """Tell of rows that were added, and return them. After a restart nothing is told until the run has passed
        where it had been.
        """
        rows = self.feed.after(self.seen) if self.feed else read(self.job.metrics)
        new = [r for r in rows if r["step"] > self.seen and r["time"] >= self.job.began]
        for row in new:
            self.seen = int(row["step"])
            self.trackers.add(row)
            self.progress.advance(1, {"tokens": row["tokens"]})
            if self.seen % self.every == 0:
                shown = ", ".join(f"{name} {row[name]:.3g}" for name in SHOWN if name in row)
                self.progress.say(f"step {self.seen}: {shown}, {row['useful_tokens_per_second']:,.0f} tokens/s")
            if warning := self.watch.step(row):
                self.progress.say(warning)
        return new
