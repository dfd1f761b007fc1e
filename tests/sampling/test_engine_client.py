"""The engine's own process with a stepper in place of vLLM: what crosses, what is aborted, how it may end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UserError
from app.sampling.engine import EngineDead, all_or_none
from app.sampling.engine_client import EngineProcess
from tests.sampling.steppers import Echo

Run = Callable[[Awaitable[Any]], Any]
ROOT = Path(__file__).parents[2]


def start(stall: float = 600, **arguments: Any) -> EngineProcess:
    return EngineProcess("tests.sampling.steppers:Echo", arguments, {}, stall)


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    found = start()
    yield found
    found.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[EngineProcess, Run]]:
    """One process and one event loop for examples that leave nothing behind."""
    found, loop = start(), asyncio.new_event_loop()
    yield found, loop.run_until_complete
    found.close()
    loop.close()


@given(asked=st.lists(st.tuples(st.integers(5, 99), st.integers(1, 6), st.booleans()), max_size=12))
def test_every_request_gets_its_own_result_and_the_cancelled_none(
    shared: tuple[EngineProcess, Run], asked: list[tuple[int, int, bool]]
) -> None:
    engine, run = shared

    async def all_of_them() -> list[Any]:
        tasks = [asyncio.create_task(engine.generate([token], {"tokens": tokens})) for token, tokens, _ in asked]
        await asyncio.sleep(0)  # every request is under way
        for task, (_, _, cancelled) in zip(tasks, asked, strict=True):
            if cancelled:
                task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    for found, (token, tokens, cancelled) in zip(run(all_of_them()), asked, strict=True):
        if cancelled:
            assert isinstance(found, asyncio.CancelledError)
        else:
            assert found == [token] * tokens
    assert run(engine.call("names")) == []


def test_a_refused_request_fails_alone(engine: EngineProcess) -> None:
    async def both() -> list[Any]:
        refused = engine.generate([Echo.REFUSED], {"tokens": 2})
        return await asyncio.gather(refused, engine.generate([7], {"tokens": 2}), return_exceptions=True)

    refused, served = asyncio.run(both())
    assert isinstance(refused, ValueError) and str(refused) == "refused as asked"
    assert served == [7, 7]


def test_a_call_runs_between_steps_and_raises_here(engine: EngineProcess) -> None:
    async def calls() -> None:
        slow = asyncio.create_task(engine.generate([7], {"tokens": 50}))
        await asyncio.sleep(0)
        assert await engine.call("names") == ["0"]
        with pytest.raises(RuntimeError, match="stumbled as asked"):
            await engine.call("stumble")
        assert await slow == [7] * 50

    asyncio.run(calls())


def test_an_idle_engine_takes_no_step(engine: EngineProcess) -> None:
    async def idle() -> tuple[int, int]:
        await engine.generate([7], {"tokens": 3})
        before = await engine.call("count_steps")
        await asyncio.sleep(0.05)
        return before, await engine.call("count_steps")

    assert asyncio.run(idle()) == (3, 3)


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_a_large_burst_crosses_both_ways(engine: EngineProcess, kind: str) -> None:
    """More than the socket holds, in both directions at once; on the loop that Ray's actors use as well."""
    new_loop = pytest.importorskip(kind).new_event_loop

    async def burst() -> list[list[int]]:
        asked = [engine.generate([n, *range(2000)], {"tokens": 1}) for n in range(5, 405)]
        return await all_or_none(asked)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(burst()) == [[n] for n in range(5, 405)]
        assert runner.run(burst()) == [[n] for n in range(5, 405)]


@pytest.mark.parametrize(
    ("token", "reason"),
    [(Echo.BROKEN, "ArithmeticError: broken as asked"), (Echo.DEAD, "its process ended with 9")],
)
def test_a_broken_engine_fails_all_requests_now_and_later(engine: EngineProcess, token: int, reason: str) -> None:
    async def broken() -> list[Any]:
        many = [engine.generate([7], {"tokens": 10_000}) for _ in range(3)]
        found = await asyncio.gather(*many, engine.generate([token], {"tokens": 2}), return_exceptions=True)
        with pytest.raises(EngineDead, match=reason):
            await engine.generate([7], {"tokens": 1})
        with pytest.raises(EngineDead, match=reason):
            await engine.call("names")
        return found

    found = asyncio.run(broken())
    assert all(isinstance(error, EngineDead) and reason in str(error) for error in found)
    assert engine.process.wait() != 0


def test_an_engine_that_never_returns_is_killed() -> None:
    engine = start(stall=0.4)

    async def hang() -> None:
        healthy = engine.generate([7], {"tokens": 2})
        assert await healthy == [7, 7]
        await asyncio.sleep(1)  # idle for longer than the stall: no reason to kill it
        with pytest.raises(EngineDead, match=r"finished nothing for 0.4 seconds and was killed"):
            await engine.generate([Echo.HANGING], {"tokens": 2})

    asyncio.run(hang())
    assert engine.process.wait() == -signal.SIGKILL


def test_the_watch_outlives_an_event_loop() -> None:
    """A second loop watches anew: the timer of the first went with it."""
    engine = start(stall=0.4)
    assert asyncio.run(_generate(engine, 7)) == [7]
    with pytest.raises(EngineDead, match="was killed"):
        asyncio.run(_generate(engine, Echo.HANGING))


async def _generate(engine: EngineProcess, token: int) -> Any:
    return await engine.generate([token], {"tokens": 1})


def test_requests_sent_to_a_process_that_was_killed_are_not_lost_silently(engine: EngineProcess) -> None:
    engine.process.kill()
    engine.process.wait()

    async def ask() -> None:
        with pytest.raises(EngineDead, match="its process ended with -9"):
            await engine.generate([7], {"tokens": 1})

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("fails", "error", "message"),
    [
        ("user", UserError, "^no such thing$"),
        ("fault", RuntimeError, "OSError: no room"),
        ("dies", RuntimeError, "^torch.OutOfMemoryError: all of it is gone$"),
        ("silently", RuntimeError, "^its process ended with 3$"),
    ],
)
def test_a_failed_start_says_why(
    fails: str, error: type[Exception], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """What the process wrote to its standard error is on ours, too."""
    with pytest.raises(error, match=message):
        start(fails=fails)
    assert ("and so on" in capfd.readouterr().err) == (fails == "dies")


def test_the_engine_ends_with_the_process_that_asks() -> None:
    """Killed without a chance to clean up, that process leaves no engine behind, even one that is at work."""
    code = """
import asyncio
from app.sampling.engine_client import EngineProcess
engine = EngineProcess("tests.sampling.steppers:Echo", {}, {}, 600)
print(engine.facts["pid"], flush=True)
asyncio.run(engine.generate([7], {"tokens": 10**9}))
"""
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    engine = int(parent.stdout.readline())
    assert psutil.pid_exists(engine)
    time.sleep(0.2)  # the request is under way
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    end = time.monotonic() + 60
    while psutil.pid_exists(engine):
        assert time.monotonic() < end, "the engine is still there"
        time.sleep(0.05)
