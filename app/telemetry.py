"""What stages count, as Ray metrics: Prometheus reads them from each node's metrics port (docs/grafana.json).

Stages report by what their shards or steps count (traces, tokens, correct, incorrect, timeout, ...), so one metric with
labels covers them all: rate(ray_eightfold_done_total{stage="sampling", what="tokens"}[5m]) is tokens a second. Engines
count their busy seconds; over the number of engines that is their utilisation.
"""

from __future__ import annotations

from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge

DONE = "eightfold_done_total"
PENDING = "eightfold_pending_shards"
ENGINES = "eightfold_engines"


class StageMetrics:
    """Metrics of one stage; lives in the driver, where finished shards and training steps arrive.

    `engines` is how many sampling engines the stage's placement holds, 0 for a stage without.
    """

    def __init__(self, stage: str, engines: int = 0) -> None:
        self.stage, self.engine_count, self.left, self.unit = {"stage": stage}, engines, 0, "shards"
        self.counted = Counter(DONE, "What finished shards and steps counted.", ("stage", "what"))
        self.pending = Gauge(PENDING, "Shards or training steps still to do.", ("stage",))
        self.engines = Gauge(ENGINES, "Sampling engines that the stage holds.", ("stage",))

    def begin(self, pending: int, unit: str) -> None:
        """So many shards (or what `unit` says) are to be done."""
        self.left, self.unit = pending, unit
        self.pending.set(pending, self.stage)
        self.engines.set(self.engine_count, self.stage)

    def done(self, pieces: int, counts: Mapping[str, float]) -> None:
        """More pieces are done; they counted `counts`."""
        self.left -= pieces
        self.pending.set(self.left, self.stage)
        for what, value in {self.unit: float(pieces), **counts}.items():
            if value > 0:
                self.counted.inc(value, {**self.stage, "what": what})

    def end(self) -> None:
        """The stage holds nothing any more, whether it is done or failed."""
        self.engines.set(0, self.stage)
