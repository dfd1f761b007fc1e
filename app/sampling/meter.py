"""Engine time by request: a clock that runs only while the engine has work, shared equally by the requests in it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

WINDOW = 10.0  # seconds of the engine's record over time


@dataclass
class Span:
    """One request's stay. `seconds` is set when it ends."""

    begin: float
    seconds: float = 0.0


@dataclass
class Window:
    """What an engine did in one window, or in a part of it."""

    busy: float = 0.0  # seconds with at least one request
    requests: float = 0.0  # seconds of requests: their mean number is this over the window's length
    tokens: int = 0  # of requests that finished in it


class Meter:
    """Processor-sharing time: while k requests are under way each is charged 1/k of every second.

    So the charges of all requests add up to `busy`, the time with work, however they overlap: summed over shards they
    never count a second twice. Not for use by several threads at once.

    Args:
        now: seconds on any clock that never goes back.
        epoch: seconds since 1970 at the start, for windows that engines on several nodes share.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter, epoch: float | None = None) -> None:
        self.now = now
        self.active = 0
        self.busy = 0.0  # seconds with at least one request
        self._aborted = 0.0
        self.started = self._last = now()
        self._share = 0.0  # seconds charged to a request that has been here all along
        self._offset = (time.time() if epoch is None else epoch) - self.started
        self._windows: defaultdict[int, Window] = defaultdict(Window)

    def _advance(self) -> None:
        now = self.now()
        if self.active:
            self.busy += now - self._last
            self._share += (now - self._last) / self.active
            self._record(self._last, now)
        self._last = now

    def _record(self, begin: float, end: float) -> None:
        """Enter a stretch with unchanged requests into the windows it lies in."""
        while begin < end:
            number = self._number(begin)
            stop = min(end, max((number + 1) * WINDOW - self._offset, begin + 1e-6))  # rounding must not stop the loop
            window = self._windows[number]
            window.busy += stop - begin
            window.requests += self.active * (stop - begin)
            begin = stop

    def _number(self, moment: float) -> int:
        return int((moment + self._offset) // WINDOW)

    @contextmanager
    def request(self) -> Iterator[Span]:
        """The time of one request."""
        self._advance()
        self.active += 1
        span = Span(self._share)
        try:
            yield span
        except BaseException:
            self._end(span)
            self._aborted += span.seconds
            raise
        self._end(span)

    def wrote(self, tokens: int) -> None:
        """Count the tokens of a request that has just finished."""
        self._windows[self._number(self.now())].tokens += tokens

    def _end(self, span: Span) -> None:
        self._advance()
        self.active -= 1
        span.seconds = self._share - span.begin

    def take_aborted(self) -> float:
        """Seconds charged to requests that ended without a result since this was last asked."""
        seconds, self._aborted = self._aborted, 0.0
        return seconds

    def take_windows(self) -> list[tuple[float, Window]]:
        """Windows with work since this was last asked, by their begin in seconds since 1970; the last may go on."""
        self._advance()
        taken = sorted(self._windows.items())
        self._windows.clear()
        return [(number * WINDOW, window) for number, window in taken]
