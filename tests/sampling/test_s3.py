"""The same traces through an s3:// address, against a real S3 server process on this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.records import Trace
from app.store import DIGEST
from tests.sampling.test_stage import context, process, worker


def test_a_bucket_holds_what_a_folder_would(bucket: str, tmp_path: Path) -> None:
    local = process(context(tmp_path), [0, 1, 2, 3, 4])
    assert process(context(f"{bucket}/runs/demo"), [0, 1, 2, 3, 4]) == local


def test_a_run_in_a_bucket_goes_on_where_it_stopped(bucket: str) -> None:
    asked = context(f"{bucket}/runs/demo", stopping={"correct": 2})
    one = worker(asked)
    asyncio.run(one.process(3))
    assert asked.pending(5) == [0, 1, 2, 4]
    before = asked.output.footer(3).metadata[DIGEST]
    traces = process(asked, asked.pending(5))
    assert asked.output.footer(3).metadata[DIGEST] == before
    assert traces == process(context(f"{bucket}/other", stopping={"correct": 2}), [0, 1, 2, 3, 4])
    assert len({t.id for t in traces}) == len(traces) == int(asked.output.counts()["traces"])
    assert all(isinstance(t, Trace) for t in traces)


def test_an_upload_that_fails_leaves_no_shard(bucket: str) -> None:
    asked = context(f"{bucket}/runs/demo")
    with pytest.raises(ZeroDivisionError), asked.output.atomic("part-00000.parquet") as sink:
        sink.write(b"half")
        1 / 0  # noqa: B018
    assert asked.output.done_shards() == []
