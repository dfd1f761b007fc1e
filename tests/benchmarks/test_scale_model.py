"""The scale plan's arithmetic."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from benchmarks.scale_model import (
    Costs,
    Limit,
    Load,
    footer_seconds,
    limits,
    loss_of_a_node,
    restart_seconds,
    shares_lost,
)

COSTS = Costs(
    driver_seconds=0.0002,
    queue_seconds=0.005,
    place_seconds=0.0005,
    pending_bytes=100,
    bytes_per_token=4.0,
    footer_seconds=0.0005,
    trace_seconds=0.0001,
    world_seconds=0.0001,
    story_bytes=100,
    problem_bytes=1000,
    statement_bytes=7000,
    verdict_seconds=0.001,
)
loads = st.builds(
    Load,
    gpus=st.integers(8, 100_000).map(lambda n: n * 8),
    tokens_per_second=st.floats(100, 1e5),
    hours=st.floats(0.5, 500),
    trace_tokens=st.floats(50, 20_000),
    samples=st.integers(1, 1024),
    problems_per_shard=st.integers(1, 256),
)


def test_a_load_by_hand() -> None:
    load = Load(gpus=1000, tokens_per_second=10_000, hours=24, trace_tokens=300, samples=64, problems_per_shard=32)
    assert load.shard_tokens == 614_400
    assert load.shards_per_second == pytest.approx(1e7 / 614_400)
    assert load.traces_per_second == pytest.approx(33_333.3, rel=1e-4)
    assert load.shards == 1_406_250 and load.problems == 45_000_000 and load.traces == 2_880_000_000
    assert load.places == 2000
    assert dataclasses.replace(load, hours=0.01).places == 586  # fewer shards than could be in flight
    assert footer_seconds(load, COSTS) == pytest.approx(1_406_250 * (0.0005 + 3 * 0.03 / 32))
    assert loss_of_a_node(load) == pytest.approx(61.44)  # two shards in flight, half done, at 10,000 tokens/s


def test_what_is_over_its_limit_comes_first() -> None:
    found = limits(Load(problems_per_shard=1), COSTS)
    assert [limit.use for limit in found] == sorted((limit.use for limit in found), reverse=True)
    queue = next(limit for limit in found if limit.part == "queue, shards a second")
    assert queue.needed == pytest.approx(520.83, rel=1e-4) and queue.available == pytest.approx(200)
    assert queue.use > 1 and queue.gpus(Load(problems_per_shard=1)) == pytest.approx(384, rel=1e-3)


def test_what_grows_with_the_shards_and_what_does_not() -> None:
    """The start of a stage and its end cost nothing a shard: places are as many as engines take at once."""
    day, week = Load(), Load(hours=7 * 24)
    needed = [{limit.part: limit.needed for limit in limits(load, COSTS)} for load in (day, week)]
    assert needed[1]["driver, places at the start"] == needed[0]["driver, places at the start"] == pytest.approx(1)
    part = "driver and queue, memory of pending shards"
    assert needed[0][part] == pytest.approx(1_406_250 * 100) and needed[1][part] == pytest.approx(7 * needed[0][part])
    part = "resume, footers of half the shards"
    assert needed[0][part] == pytest.approx(footer_seconds(day, COSTS) / 2)
    assert not any("end of the stage" in part for part in needed[0])


@given(loads)
def test_at_its_limit_a_part_is_full(load: Load) -> None:
    for limit in limits(load, COSTS):
        if limit.part == "control plane, nodes":
            continue  # whole nodes
        there = dataclasses.replace(load, gpus=limit.gpus(load))  # type: ignore[arg-type]
        assume(load.shards > 1000 and there.shards > 1000)  # shards are whole, too
        again = next(other for other in limits(there, COSTS) if other.part == limit.part)
        assert again.use == pytest.approx(1, rel=1e-2)


@given(loads, st.integers(2, 8))
def test_larger_shards_spare_the_driver_and_cost_more_with_a_node(load: Load, times: int) -> None:
    larger = dataclasses.replace(load, problems_per_shard=load.problems_per_shard * times)
    assert larger.shards_per_second == pytest.approx(load.shards_per_second / times)
    assert loss_of_a_node(larger) == pytest.approx(loss_of_a_node(load) * times)
    assert shares_lost(larger, COSTS)["unfinished shards"] > shares_lost(load, COSTS)["unfinished shards"]
    assert footer_seconds(larger, COSTS) <= footer_seconds(load, COSTS)


@given(loads)
def test_a_restart_is_never_free(load: Load) -> None:
    parts = restart_seconds(load, COSTS)
    assert min(parts.values()) > 0
    assert parts["load engines"] == COSTS.engine_load_seconds


def test_use_is_a_share() -> None:
    limit = Limit("x", 50, 200, "s")
    assert limit.use == 0.25 and limit.gpus(Load(gpus=1000)) == 4000
