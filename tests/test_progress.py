"""What a long stage says, on a clock the tests hold."""

from __future__ import annotations

import io
import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.progress import Progress, clock


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class Told:
    """A progress, its clock and its lines."""

    def __init__(self, interval: float = 5.0) -> None:
        self.out, self.clock = io.StringIO(), Clock()
        self.progress = Progress("sampling", self.out, interval, self.clock)

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (-3, "0:00"), (9.6, "0:10"), (59.6, "1:00"), (130, "2:10"), (3599.7, "1:00:00"), (3723, "1:02:03")],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@given(st.floats(0, 1e6))
def test_clock_reads_back(seconds: float) -> None:
    parts = [int(part) for part in clock(seconds).split(":")]
    assert all(part < 60 for part in parts[1:])
    assert sum(part * 60**i for i, part in enumerate(reversed(parts))) == round(seconds)


def test_a_line_tells_share_rate_and_time_left() -> None:
    told = Told()
    told.progress.begin(125)
    told.clock.time += 42  # engines start
    told.progress.advance(7, {"traces": 2_345})
    assert told.lines == ["sampling: 7/125 shards, 2,345 traces, 0:42 elapsed"]  # from which nobody can tell the rest
    told.clock.time += 20
    told.progress.advance(30, {"traces": 10_000})
    assert told.lines[1:] == ["sampling: 37/125 shards, 12,345 traces (500/s), 1:02 elapsed, about 0:59 left"]


def test_lines_keep_their_distance_and_the_last_is_always_said() -> None:
    told = Told()
    told.progress.begin(100)
    for _ in range(100):
        told.clock.time += 0.25
        told.progress.advance()
    shares = [re.search(r"(\d+)/100", line)[1] for line in told.lines]  # type: ignore[index]
    assert shares == ["20", "40", "60", "80", "100"]


def test_the_last_piece_is_said_at_once() -> None:
    told = Told()
    told.progress.begin(2)
    told.progress.advance()
    told.progress.advance()
    assert len(told.lines) == 1 and "2/2 shards" in told.lines[0] and "left" not in told.lines[0]


def test_counts_add_up_and_small_ones_are_left_out() -> None:
    told = Told()
    told.progress.begin(4, unit="steps")
    for tokens in (600.0, 400.0, 400.0):
        told.clock.time += 10
        told.progress.advance(1, {"tokens": tokens, "seconds": 0.2})
    assert told.lines[-1] == "sampling: 3/4 steps, 1,400 tokens (40/s), 0:30 elapsed, about 0:10 left"


def test_reused_shards_do_not_flatter_the_rate() -> None:
    told = Told()
    told.progress.begin(100, reused=80)
    assert told.lines == ["sampling: 80 of 100 shards are there already; going on"]
    told.progress.advance(1)
    told.clock.time += 30
    told.progress.advance(4)
    assert "about 1:52 left" in told.lines[-1]
    assert told.progress.snapshot()["rate"] == pytest.approx(4 / 30, abs=1e-6)


def test_a_rate_waits_for_pieces_that_tell() -> None:
    told = Told(interval=0)
    told.progress.begin(100)
    told.progress.advance(20)
    told.clock.time += 1
    told.progress.advance(20)
    assert "left" not in told.lines[-1] and told.progress.snapshot()["rate"] is None


def test_no_time_elapsed_is_no_division_by_zero() -> None:
    told = Told(interval=0)
    told.progress.begin(2)
    told.progress.advance(1, {"traces": 5})
    assert "0:00 elapsed" in told.lines[0]


def test_say_is_one_line_with_the_stage() -> None:
    told = Told()
    told.progress.say("done in 0:03")
    assert told.out.getvalue() == "sampling: done in 0:03\n"


def test_many_threads_lose_no_count() -> None:
    told = Told(interval=1e9)
    told.progress.begin(4001)

    def work() -> None:
        for _ in range(1000):
            told.progress.advance(1, {"traces": 2})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told.progress.done == 4000 and told.progress.counts == {"traces": 8000}
