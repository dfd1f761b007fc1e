"""Engine time by request: a clock that runs only while the engine has work, shared equally by the requests in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Span:
    """One request's stay. `seconds` is set when it ends."""

    begin: float
    seconds: float = 0.0


class Meter:
    """Processor-sharing time: while k requests are under way each is charged 1/k of every second.

    So the charges of all requests add up to `busy`, the time with work, however they overlap: summed over shards they
    never count a second twice. Not for use by several threads at once.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.active = 0
        self.busy = 0.0  # seconds with at least one request
        self._aborted = 0.0
        self.started = self._last = now()
        self._share = 0.0  # seconds charged to a request that has been here all along

    def _advance(self) -> None:
        now = self.now()
        if self.active:
            self.busy += now - self._last
            self._share += (now - self._last) / self.active
        self._last = now

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

    def _end(self, span: Span) -> None:
        self._advance()
        self.active -= 1
        span.seconds = self._share - span.begin

    def take_aborted(self) -> float:
        """Seconds charged to requests that ended without a result since this was last asked."""
        seconds, self._aborted = self._aborted, 0.0
        return seconds
