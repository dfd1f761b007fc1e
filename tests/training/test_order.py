"""The order of data: every example once an epoch, whatever the number of workers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.training.order import Order, micro_batches, order_for
from app.training.settings import TrainSettings

COUNTS = st.integers(1, 60)
BATCHES = st.integers(1, 40)


def settings(**values: object) -> TrainSettings:
    return TrainSettings.model_validate({"init": "base", **values})


@given(COUNTS, BATCHES, st.integers(1, 4), st.integers(0, 5))
def test_whole_epochs_use_every_example_equally_often(count: int, batch: int, epochs: int, seed: int) -> None:
    order = order_for(settings(epochs=epochs, batch=batch), count, seed)
    seen = np.concatenate([order.step(i) for i in range(order.steps)])
    assert np.bincount(seen, minlength=count).tolist() == [epochs] * count


@given(COUNTS, BATCHES, st.integers(1, 12))
def test_steps_are_counted_exactly_and_every_batch_is_full(count: int, batch: int, steps: int) -> None:
    order = order_for(settings(steps=steps, batch=batch), count, 0)
    assert [len(order.step(i)) for i in range(order.steps)] == [batch] * steps


@given(COUNTS, BATCHES, st.integers(0, 100), st.integers(0, 100))
def test_a_slice_is_the_same_alone_and_inside_a_longer_one(count: int, batch: int, start: int, length: int) -> None:
    order = Order(count, batch, 10_000, 3)
    assert (order.slice(0, start + length)[start:] == order.slice(start, start + length)).all()


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5), st.integers(0, 9))
def test_workers_share_a_step_without_loss_or_repeat(count: int, size: int, world: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 50, 100)
    examples = rng.permutation(100)[:count]
    rounds = micro_batches(examples, lengths, size, world)
    assert all(len(r) == world for r in rounds)
    assert all(len(part) <= size for r in rounds for part in r)
    assert sorted(np.concatenate([part for r in rounds for part in r]).tolist()) == sorted(examples.tolist())


def test_micro_batches_go_from_long_to_short() -> None:
    lengths = np.array([5, 50, 7, 40, 6, 60])
    parts = [part for r in micro_batches(np.arange(6), lengths, 2, 1) for part in r]
    assert [sorted(lengths[p].tolist()) for p in parts] == [[50, 60], [7, 40], [5, 6]]


def test_epochs_and_seeds_differ() -> None:
    order = Order(50, 10, 100, 0)
    assert order.epoch(0).tolist() != order.epoch(1).tolist()
    assert order.epoch(0).tolist() != Order(50, 10, 100, 1).epoch(0).tolist()
    assert order.epoch(1).tolist() == Order(50, 7, 900, 0).epoch(1).tolist()  # not a matter of batch or length


def test_half_an_epoch_is_allowed() -> None:
    order = order_for(settings(epochs=0.5, batch=4), 20, 0)
    assert (order.total, order.steps) == (10, 3)
