"""The order of data: every example once an epoch, whatever the number of workers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.training.sampler import Sampler, micro_batches, sampler_for
from app.training.settings import TrainSettings

COUNTS = st.integers(1, 60)
BATCHES = st.integers(1, 40)


def settings(**values: object) -> TrainSettings:
    return TrainSettings.model_validate({**values})


@given(COUNTS, BATCHES, st.integers(1, 4), st.integers(0, 5))
def test_whole_epochs_use_every_example_equally_often(count: int, batch: int, epochs: int, seed: int) -> None:
    order = sampler_for(settings(epochs=epochs, batch=batch), np.arange(count), seed)
    seen = np.concatenate([order.step(i) for i in range(order.steps)])
    assert np.bincount(seen, minlength=count).tolist() == [epochs] * count


@given(COUNTS, BATCHES, st.integers(1, 12))
def test_steps_are_counted_exactly_and_every_batch_is_full(count: int, batch: int, steps: int) -> None:
    order = sampler_for(settings(steps=steps, batch=batch), np.arange(count), 0)
    assert [len(order.step(i)) for i in range(order.steps)] == [batch] * steps


@given(COUNTS, BATCHES, st.integers(0, 100), st.integers(0, 100))
def test_a_slice_is_the_same_alone_and_inside_a_longer_one(count: int, batch: int, start: int, length: int) -> None:
    order = Sampler(count, batch, 10_000, 3)
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


@given(st.integers(1, 40), st.integers(1, 200), st.integers(1, 5), st.integers(0, 9))
def test_a_budget_of_tokens_is_kept_without_loss_or_repeat(count: int, tokens: int, world: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 50, 100)
    examples = rng.permutation(100)[:count]
    rounds = micro_batches(examples, lengths, 1, world, tokens=tokens)
    assert all(len(r) == world for r in rounds)
    parts = [part for r in rounds for part in r]
    assert all(lengths[part].sum() <= max(tokens, lengths[examples].max()) for part in parts)
    assert sorted(np.concatenate(parts).tolist()) == sorted(examples.tolist())
    assert len(rounds) <= -(-count // world)


def test_a_budget_of_tokens_fills_its_workers_evenly() -> None:
    lengths = np.array([10] * 12)
    parts = [part for r in micro_batches(np.arange(12), lengths, 1, 4, tokens=100) for part in r]
    assert [len(part) for part in parts] == [3, 3, 3, 3]


def test_micro_batches_go_from_long_to_short() -> None:
    lengths = np.array([5, 50, 7, 40, 6, 60])
    parts = [part for r in micro_batches(np.arange(6), lengths, 2, 1) for part in r]
    assert [sorted(lengths[p].tolist()) for p in parts] == [[50, 60], [7, 40], [5, 6]]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(0, 5), st.integers(1, 9), st.integers(1, 3))
def test_grouped_examples_follow_each_other(problems: list[int], seed: int, size: int, world: int) -> None:
    groups = np.array(problems)
    order = sampler_for(settings(epochs=2, batch=7, group="problem"), groups, seed)
    for epoch in (0, 1):
        permutation = order.epoch(epoch)
        assert sorted(permutation.tolist()) == list(range(len(problems)))
        runs = 1 + int((np.diff(groups[permutation]) != 0).sum())
        assert runs == len(set(problems))
    parts = [p for r in micro_batches(permutation, groups + 3, size, world, groups) for p in r]
    flat = np.concatenate(parts)
    assert sorted(flat.tolist()) == list(range(len(problems)))
    assert 1 + int((np.diff(groups[flat]) != 0).sum()) == len(set(problems))


def test_groups_come_in_a_new_order_each_epoch() -> None:
    order = sampler_for(settings(epochs=2, batch=4, group="problem"), np.repeat(np.arange(20), 3), 0)
    assert order.epoch(0).tolist() != order.epoch(1).tolist()
    assert order.epoch(0).tolist() != sorted(order.epoch(0).tolist())


def test_epochs_and_seeds_differ() -> None:
    order = Sampler(50, 10, 100, 0)
    assert order.epoch(0).tolist() != order.epoch(1).tolist()
    assert order.epoch(0).tolist() != Sampler(50, 10, 100, 1).epoch(0).tolist()
    assert order.epoch(1).tolist() == Sampler(50, 7, 900, 0).epoch(1).tolist()  # not a matter of batch or length


def test_half_an_epoch_is_allowed() -> None:
    order = sampler_for(settings(epochs=0.5, batch=4), np.arange(20), 0)
    assert (order.total, order.steps) == (10, 3)
