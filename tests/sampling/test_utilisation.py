"""The record of engines over time: what shards wrote adds up, engine by engine and window by window."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.sampling.meter import WINDOW, Meter
from app.sampling.utilisation import KIND, record, utilisation
from app.store import Output
from tests.sampling.test_meter import Clock
from tests.sampling.test_stage import context, worker


def write(output: Output, shard: int, engine: str, begin: float, busy: float, requests: int, tokens: int) -> None:
    """A shard whose engine was busy from `begin` (in windows) for `busy` seconds with so many requests."""
    clock = Clock()
    meter = Meter(clock, begin * WINDOW)
    with ExitStack() as stack:
        for _ in range(requests):
            stack.enter_context(meter.request())
        clock.time = busy
        if tokens:
            meter.wrote(tokens)
    output.write_shard(shard, record(meter, engine), kind=KIND)


def test_engines_side_by_side_share_a_window(tmp_path: Path) -> None:
    output = Output(str(tmp_path), "sampling", "k")
    write(output, 0, "a", 7, WINDOW / 2, 3, 100)
    write(output, 1, "b", 7, WINDOW / 4, 1, 50)
    [found] = utilisation(output)
    assert (found.begin, found.engines, found.busy) == (7 * WINDOW, 2, 0.375)
    assert found.requests == pytest.approx(3 / 2 + 1 / 4)
    assert found.tokens_per_second == 150 / WINDOW


def test_an_engine_that_waits_between_two_shards_counts_as_idle(tmp_path: Path) -> None:
    output = Output(str(tmp_path), "sampling", "k")
    write(output, 0, "a", 7, WINDOW / 2, 1, 0)
    write(output, 1, "a", 9, WINDOW / 2, 1, 0)
    write(output, 2, "b", 8, WINDOW, 1, 0)
    assert [(u.begin / WINDOW, u.engines, u.busy) for u in utilisation(output)] == [
        (7, 1, 0.5),
        (8, 2, 0.5),
        (9, 1, 0.5),
    ]


def test_two_shards_of_one_engine_in_one_window_add_up(tmp_path: Path) -> None:
    output = Output(str(tmp_path), "sampling", "k")
    write(output, 0, "a", 7, 2, 1, 5)
    write(output, 1, "a", 7.3, 3, 2, 6)
    [found] = utilisation(output)
    assert found.busy == pytest.approx(0.5)
    assert found.requests == pytest.approx((2 + 6) / WINDOW)
    assert found.tokens_per_second == pytest.approx(1.1)


def test_an_output_without_records_has_none(tmp_path: Path) -> None:
    assert utilisation(Output(str(tmp_path), "sampling", "k")) == []


@settings(max_examples=30)  # each writes files
@given(shards=st.lists(st.tuples(st.integers(0, 4), st.floats(0, 20), st.floats(0.01, 30)), max_size=6))
def test_no_engine_is_busier_than_the_time_there_is(
    tmp_path_factory: pytest.TempPathFactory, shards: list[tuple[int, float, float]]
) -> None:
    output = Output(str(tmp_path_factory.mktemp("run")), "sampling", "k")
    for number, (engine, begin, busy) in enumerate(shards):
        write(output, number, f"e{engine}", begin, busy, 1, 1)
    found = utilisation(output)
    assert [u.begin for u in found] == sorted({u.begin for u in found})
    assert all(0 <= u.busy <= 1 and u.engines >= 1 for u in found)
    assert sum(u.tokens_per_second for u in found) * WINDOW == pytest.approx(len(shards))


def test_the_stage_writes_a_record_beside_each_shard(tmp_path: Path) -> None:
    asked = context(tmp_path)
    one = worker(asked)

    async def run() -> None:
        for index in (0, 1):
            await one.process(index)

    asyncio.run(run())
    assert asked.output.done_shards(KIND) == [0, 1]
    found, counts = utilisation(asked.output), asked.output.counts()
    assert sum(u.tokens_per_second for u in found) * WINDOW == pytest.approx(counts["tokens"])
    assert sum(u.busy for u in found) * WINDOW == pytest.approx(counts["engine_seconds"], rel=0.01)
