"""Counts of finished shards as Ray metrics: Prometheus reads them from each node's metrics port (docs/grafana.json).

Stages report by what their shards count (traces, tokens, correct, incorrect, timeout, ...), so one metric with labels
covers them all: rate(ray_eightfold_done_total{stage="sampling", what="tokens"}[5m]) is tokens a second.
"""

from __future__ import annotations

from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge

DONE = "eightfold_done_total"
PENDING = "eightfold_pending_shards"


class StageMetrics:
    """Metrics of one stage; lives in the driver, where finished shards arrive."""

    def __init__(self, stage: str, pending: int) -> None:
        self.stage, self.left = {"stage": stage}, pending
        self.done = Counter(DONE, "What finished shards counted.", ("stage", "what"))
        self.pending = Gauge(PENDING, "Shards still to do.", ("stage",))
        self.pending.set(pending, self.stage)

    def shard(self, counts: Mapping[str, float]) -> None:
        """One more shard is done; it counted `counts`."""
        self.left -= 1
        self.pending.set(self.left, self.stage)
        for what, value in {"shards": 1.0, **counts}.items():
            if value > 0:
                self.done.inc(value, {**self.stage, "what": what})
