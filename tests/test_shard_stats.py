"""Sums of receipts: the same in any order and grouping, another where anything differs."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from app.shard_stats import Receipt, Total

AMOUNTS = st.floats(-1e15, 1e15)
COUNTS = st.dictionaries(st.sampled_from("abc"), AMOUNTS)
BODIES = st.tuples(st.integers(0, 9), COUNTS, st.sampled_from(["", "0a", "b1"]))
RECEIPTS = st.lists(BODIES, max_size=12).map(lambda rows: [Receipt(i, *row) for i, row in enumerate(rows)])


@given(RECEIPTS, st.randoms(use_true_random=False), st.integers(0, 12))
def test_order_and_grouping_do_not_matter(receipts: list[Receipt], rng, cut: int) -> None:
    whole = Total(receipts).written
    rng.shuffle(receipts)
    assert (Total(receipts[:cut]) + Total(receipts[cut:])).written == whole
    assert (whole.shards, whole.rows) == (len(receipts), sum(r.rows for r in receipts))


def test_seconds_are_added_exactly() -> None:
    receipts = [Receipt(i, 1, {"seconds": s}, "") for i, s in enumerate((1e16, 0.1, -1e16, 0.2))]
    assert Total(receipts).written.counts == {"seconds": 0.1 + 0.2}


@given(RECEIPTS.filter(bool), st.data())
def test_another_digest_or_place_is_another_sum(receipts: list[Receipt], data: st.DataObject) -> None:
    before = Total(receipts).written.digest
    at = data.draw(st.integers(0, len(receipts) - 1))
    other = data.draw(st.sampled_from([replace(receipts[at], digest="ff"), replace(receipts[at], index=len(receipts))]))
    assert Total([*receipts[:at], other, *receipts[at + 1 :]]).written.digest != before
    assert Total([*receipts[:at], *receipts[at + 1 :]]).written.digest != before
    assert Total([*receipts, receipts[at]]).written.digest != before


def test_nothing_is_a_sum_too() -> None:
    nothing = Total().written
    assert (nothing.shards, nothing.rows, nothing.counts, nothing.digest) == (0, 0, {}, "sum:" + "0" * 32)
