"""Records through Arrow and Parquet and back, ids and seeds."""

from __future__ import annotations

import io
from dataclasses import fields
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.records import (
    JUDGED,
    OUTCOMES,
    Example,
    PreferencePair,
    Problem,
    Record,
    StepValue,
    Trace,
    Verdict,
    chunked,
    digest,
    seed_from,
    totals,
    trace_id,
)

RECORDS: list[type[Record]] = [Problem, Trace, Verdict, StepValue, Example, PreferencePair]
text = st.text(st.characters(blacklist_categories=("Cs",)), max_size=20)
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): text,
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(allow_nan=False),
    pa.bool_(): st.booleans(),
    pa.list_(pa.int32()): st.lists(st.integers(0, 2**31 - 1), max_size=6),
}


def records(kind: type[Record]) -> st.SearchStrategy[Any]:
    """Any record that its schema allows, nulls and empty lists among them."""
    made = {}
    for field in kind.schema:
        values = VALUES[field.type]
        made[field.name] = st.none() | values if field.nullable else values
    return st.builds(kind, **made)


@pytest.mark.parametrize("kind", RECORDS)
@given(st.data())
@settings(max_examples=40, deadline=None)
def test_records_survive_parquet(kind: type[Record], data: st.DataObject) -> None:
    rows = data.draw(st.lists(records(kind), max_size=5))
    sink = io.BytesIO()
    pq.write_table(kind.table(rows), sink, compression="zstd")
    sink.seek(0)
    assert kind.from_table(pq.read_table(sink)) == rows


@pytest.mark.parametrize("kind", RECORDS)
def test_schemas_name_the_fields_in_order(kind: type[Record]) -> None:
    assert kind.schema.names == [field.name for field in fields(kind)]  # type: ignore[arg-type]
    assert all(type in VALUES for type in kind.schema.types)


@pytest.mark.parametrize("kind", RECORDS)
def test_nullable_is_exactly_what_may_be_none(kind: type[Record]) -> None:
    optional = {field.name for field in fields(kind) if "None" in str(field.type)}  # type: ignore[arg-type]
    assert {field.name for field in kind.schema if field.nullable} == optional


@pytest.mark.parametrize("kind", RECORDS)
def test_no_records_keep_their_schema(kind: type[Record]) -> None:
    table = kind.table([])
    assert table.schema.equals(kind.schema) and kind.from_table(table) == []


def test_other_columns_and_orders_are_ignored() -> None:
    table = Verdict.table([Verdict("t", "correct", None, "r", "exact", 0.5)])
    mixed = table.append_column("extra", pa.array([1])).select(["extra", *reversed(Verdict.schema.names)])
    assert Verdict.from_table(mixed) == [Verdict("t", "correct", None, "r", "exact", 0.5)]


def test_a_missing_column_is_an_error() -> None:
    with pytest.raises(KeyError):
        Verdict.from_table(Verdict.table([]).drop_columns(["reason"]))


def test_records_cannot_be_changed() -> None:
    verdict = Verdict("t", "correct", None, "r", "exact", 0.5)
    with pytest.raises(AttributeError):
        verdict.outcome = "incorrect"  # type: ignore[misc]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_verdicts_know_what_they_say(outcome: str) -> None:
    verdict = Verdict("t", outcome, None, "r", "none", 0.0)
    assert verdict.correct == (outcome == "correct")
    assert verdict.judged == (outcome in JUDGED) == (outcome not in ("timeout", "error"))


json = st.recursive(
    st.none() | st.booleans() | st.integers() | text, lambda inner: st.lists(inner, max_size=3), max_leaves=6
)


@given(st.lists(json, max_size=4), st.lists(json, max_size=4))
def test_digests_differ_where_parts_do(one: list[Any], two: list[Any]) -> None:
    same = repr(one) == repr(two)
    assert (digest(*one) == digest(*two)) == same


@pytest.mark.parametrize("size", [4, 8, 12])
def test_digest_has_its_size(size: int) -> None:
    assert len(digest("x", size=size)) == 2 * size and int(digest("x", size=size), 16) >= 0


def test_digest_is_fixed_for_good() -> None:
    """Ids of runs that are on disk hang on it: a change here orphans all of them."""
    assert digest("p-1", 3, {"b": 1, "a": [2.5, None, "\u00e9"]}, size=8) == digest(
        "p-1", 3, {"a": [2.5, None, "\u00e9"], "b": 1}, size=8
    )
    assert trace_id("p-1", 0, "base") == "t-" + digest("p-1", 0, "base", "sample")


@given(st.lists(json, max_size=4))
def test_seeds_fit_every_engine(parts: list[Any]) -> None:
    assert 0 <= seed_from(*parts) < 2**31
    assert seed_from(*parts) == seed_from(*parts)


def test_trace_ids_differ_in_every_part() -> None:
    ids = {
        trace_id(problem, sample, policy, purpose)
        for problem in ("a", "b") for sample in (0, 1) for policy in ("x", "y") for purpose in ("sample", "evaluation")
    }  # fmt: skip
    assert len(ids) == 16


counts = st.dictionaries(st.sampled_from("abc"), st.integers(-5, 5).map(float))


@given(st.lists(counts, max_size=6))
def test_totals_add_key_by_key(rows: list[dict[str, float]]) -> None:
    found = totals(iter(rows))
    assert set(found) == {key for row in rows for key in row}
    assert all(found[key] == sum(row.get(key, 0) for row in rows) for key in found)


@given(st.lists(st.integers(), max_size=30), st.integers(1, 7))
def test_chunks_join_to_the_rows(rows: list[int], size: int) -> None:
    parts = chunked(rows, size)
    assert [row for part in parts for row in part] == rows
    assert all(len(part) == size for part in parts[:-1]) and all(0 < len(part) <= size for part in parts)
