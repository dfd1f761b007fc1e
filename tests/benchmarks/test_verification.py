"""The verification benchmark, each part on few rows."""

from __future__ import annotations

from benchmarks import verification


def test_through_actors(ray_local: str) -> None:
    (row,) = verification.actors(40)
    assert row.unit == "traces/s" and row.value > 0
    assert row.peer_value and row.ratio == row.value / row.peer_value
