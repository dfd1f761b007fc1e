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

COSTS = Costs(0.005, 0.0005, 3000, 4.0, 0.0005, 1000, 0.001)
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
    assert load.shards == 1_406_250 and load.problems == 45_000_000
    assert footer_seconds(load, COSTS) == pytest.approx(1_406_250 * (0.0005 + 3 * 0.03 / 32))
    assert loss_of_a_node(load) == pytest.approx(61.44)  # two shards in flight, half done, at 10,000 tokens/s


def test_what_is_over_its_limit_comes_first() -> None:
    found = limits(Load(problems_per_shard=1), COSTS)
    assert [limit.use for limit in found] == sorted((limit.use for limit in found), reverse=True)
    driver = next(limit for limit in found if limit.part == "driver, shards a second")
    assert driver.needed == pytest.approx(520.83, rel=1e-4) and driver.available == pytest.approx(200)
    assert driver.use > 1 and driver.gpus(Load(problems_per_shard=1)) == pytest.approx(384, rel=1e-3)


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
