"""Metrics of finished shards, and the dashboard that shows them."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

import app.telemetry as telemetry
from app.progress import Progress

ROOT = Path(__file__).parents[1]
RAYS_OWN = {"autoscaler_active_nodes", "ray_node_gpus_utilization"}


class Recorded:
    """Stands in for a metric of ray.util.metrics."""

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self.name, self.tag_keys = name, tag_keys
        self.calls: list[tuple[float, dict[str, str]]] = []

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert set(tags) == set(self.tag_keys) and value > 0
        self.calls.append((value, tags))

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert set(tags) == set(self.tag_keys)
        self.calls.append((value, tags))


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "Counter", Recorded)
    monkeypatch.setattr(telemetry, "Gauge", Recorded)


def values(metric: object) -> list[float]:
    return [value for value, _ in metric.calls]  # type: ignore[attr-defined]


def test_each_shard_adds_its_counts_and_leaves_one_less(recorded: None) -> None:
    metrics = telemetry.StageMetrics("sampling", engines=3)
    progress = Progress("sampling", io.StringIO(), watcher=metrics)
    progress.begin(5, reused=3)
    progress.advance(1, {"traces": 8.0, "truncated": 0.0})
    progress.advance(1, {"traces": 4.0})
    metrics.end()
    assert values(metrics.pending) == [2, 1, 0]
    added = [(value, tags["what"]) for value, tags in metrics.counted.calls]  # type: ignore[attr-defined]
    assert added == [(1.0, "shards"), (8.0, "traces"), (1.0, "shards"), (4.0, "traces")]
    assert values(metrics.engines) == [3, 0]


def test_training_counts_steps_and_tokens(recorded: None) -> None:
    metrics = telemetry.StageMetrics("training/sft")
    progress = Progress("training/sft", io.StringIO(), watcher=metrics)
    progress.begin(10, reused=4, unit="steps")
    progress.advance(1, {"tokens": 600.0})
    added = [(value, tags["what"]) for value, tags in metrics.counted.calls]  # type: ignore[attr-defined]
    assert added == [(1.0, "steps"), (600.0, "tokens")]
    assert values(metrics.pending) == [6, 5]


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    panels = json.loads((ROOT / "docs/grafana.json").read_text())["panels"]
    ours = {f"ray_{name}" for name in (telemetry.DONE, telemetry.PENDING, telemetry.ENGINES)}
    words = {"sum", "by", "rate", "avg", "stage", "what", "NodeType", "GpuDeviceName"}
    text = json.dumps(panels)
    assert all(metric in text for metric in ours)  # and no metric without a panel
    for panel in panels:
        (target,) = panel["targets"]
        expression = re.sub(r'"[^"]*"|\[5m\]', "", target["expr"])
        assert set(re.findall(r"[A-Za-z_]+", expression)) - words <= ours | RAYS_OWN, panel["title"]
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_the_dashboard_asks_for_counts_that_stages_report() -> None:
    """Names in `what` are keys of the counts that sampling and verification return."""
    text = "".join((ROOT / f"app/{name}/stage.py").read_text() for name in ("sampling", "verification"))
    from app.records import OUTCOMES

    for found in re.findall(r'what=~?"([^"]*)"', (ROOT / "docs/grafana.json").read_text().replace("\\", "")):
        for what in found.split("|"):
            assert what in ("shards", "steps") or what in OUTCOMES or f'"{what}"' in text, what
