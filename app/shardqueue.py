"""The shards of one stage that are to be done, handed out one at a time. An actor beside the driver; pure Python here.

A place is room for one shard in flight in an actor. It begins its shard, hands in the receipt, gets the next. Whoever
is lost with an actor is begun again by Ray under the same number, and gets the shard that it held: so no shard is lost,
and what is kept here grows with the places, not with the shards.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from app.shard_stats import Receipt


@dataclass(frozen=True, slots=True)
class Turn:
    """A shard that a place is to do, and how often it was begun, this time included."""

    shard: int
    begun: int


@dataclass(frozen=True, slots=True)
class Done:
    """A finished shard. `sure` tells whether it was begun once only: else a process taken for lost may still write."""

    receipt: Receipt
    sure: bool


class ShardQueue:
    """Hands out `shards` in order. Also counts what must outlive an actor: starts, failed starts, last words."""

    def __init__(self, shards: Iterable[int]) -> None:
        self._left = iter(shards)
        self._held: dict[int, Turn] = {}  # by place
        self._done: list[Done] = []
        self._failed_starts = self._placed = 0
        self._last_words = ""

    # -- shards -------------------------------------------------------------------------------------------------------

    def next(self, place: int, receipt: Receipt | None = None) -> Turn | None:
        """Take what a place has done, give it what to do: the shard it holds, or a new one; None where none is left."""
        held = self._held.get(place)
        if held and receipt and receipt.index == held.shard:  # anything else was handed in by its successor before
            self._done.append(Done(receipt, held.begun == 1))
            held = None
        shard = held.shard if held else next(self._left, None)
        if shard is None:
            self._held.pop(place, None)
            return None
        self._held[place] = Turn(shard, held.begun + 1 if held else 1)
        return self._held[place]

    def take(self) -> list[Done]:
        """What was finished since the last call."""
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        """Hand out no new shard."""
        self._left = iter(())

    # -- actors -------------------------------------------------------------------------------------------------------

    def place(self) -> None:
        """One more actor has a process on some node."""
        self._placed += 1

    def placed(self) -> int:
        return self._placed

    def started(self) -> None:
        """An actor's worker is ready."""
        self._failed_starts = 0

    def start_failed(self) -> int:
        """How many starts failed since one succeeded, this one included."""
        self._failed_starts += 1
        return self._failed_starts

    def died(self, words: str) -> None:
        """An actor is about to end its process, and says why."""
        self._last_words = words

    def last_words(self) -> str:
        return self._last_words
