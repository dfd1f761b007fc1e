"""The queue of shards: whatever is lost on the way, each shard is done and counted once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.shard_stats import Receipt
from app.shardqueue import ShardQueue, Turn


def receipt(shard: int) -> Receipt:
    return Receipt(shard, 1, {}, "")


STEPS = st.lists(st.tuples(st.integers(0, 4), st.sampled_from("fld")), max_size=80)


@given(st.integers(0, 30), st.integers(1, 5), STEPS)
def test_each_shard_is_done_once_whatever_is_lost(shards: int, places: int, steps: list[tuple[int, str]]) -> None:
    """f: a place finishes its shard; l: its actor is lost before; d: one that was taken for lost answers too."""
    queue = ShardQueue(range(shards))
    turns = {place: queue.next(place) for place in range(places)}
    lost: set[int] = set()
    taken = []
    steps = [(place % places, what) for place, what in steps] + [(i % places, "f") for i in range(2 * places * shards)]
    for place, what in steps:
        turn = turns[place]
        if turn is None:
            assert queue.next(place) is None
            continue
        if what == "l":
            assert queue.next(place) == Turn(turn.shard, turn.begun + 1)
            turns[place] = Turn(turn.shard, turn.begun + 1)
            lost.add(turn.shard)
            continue
        turns[place] = queue.next(place, receipt(turn.shard))
        if what == "d" and (after := turns[place]):
            turns[place] = queue.next(place, receipt(turn.shard))  # a second answer to what is done
            assert turns[place] == Turn(after.shard, 2)
            lost.add(after.shard)
        taken += queue.take()
    assert sorted(done.receipt.index for done in taken) == list(range(shards))
    assert {done.receipt.index for done in taken if not done.sure} == lost
    assert not queue.take() and not queue._held


def test_a_closed_queue_lets_places_finish_and_end() -> None:
    queue = ShardQueue(range(9))
    assert queue.next(0) == Turn(0, 1)
    queue.close()
    assert queue.next(1) is None and queue.next(0, receipt(0)) is None
    assert [done.receipt.index for done in queue.take()] == [0]


def test_starts_that_fail_in_a_row_are_counted() -> None:
    queue = ShardQueue(())
    assert [queue.start_failed(), queue.start_failed()] == [1, 2]
    queue.started()
    assert queue.start_failed() == 1
