"""The orchestration benchmark on few traces, both ways."""

from __future__ import annotations

from pathlib import Path

from benchmarks import orchestration


def test_both_ways_make_and_judge_the_traces(ray_local: str, tmp_path: Path) -> None:
    two_shards = 2 * orchestration.PROBLEMS_PER_SHARD * orchestration.SAMPLES
    found = orchestration.through(two_shards, str(tmp_path / "ray"), "few")
    (tmp_path / "plain").mkdir()
    plain = orchestration.plain(two_shards, str(tmp_path / "plain"))
    assert found.traces == plain.traces == two_shards
    assert found.rate > 0 and plain.rate > 0
