"""The same traces through an s3:// address, against a real S3 server process on this machine."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pyarrow import fs

from app.records import Trace
from app.store import DIGEST
from tests.sampling.test_stage import context, process, worker

pytest.importorskip("moto", reason="moto[server] plays S3")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a bucket on a server of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, server)
        for name, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            monkeypatch.setenv(name, value)
        fs.S3FileSystem(allow_bucket_creation=True, endpoint_override=url).create_dir("bucket")
        yield "s3://bucket"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert server.poll() is None, "the S3 server ended"
        try:
            httpx.get(url)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the S3 server did not answer in time")


def test_a_bucket_holds_what_a_folder_would(bucket: str, tmp_path: Path) -> None:
    local = process(context(tmp_path), [0, 1, 2, 3, 4])
    assert process(context(f"{bucket}/runs/demo"), [0, 1, 2, 3, 4]) == local


def test_a_run_in_a_bucket_goes_on_where_it_stopped(bucket: str) -> None:
    asked = context(f"{bucket}/runs/demo", until={"correct": 2})
    one = worker(asked)
    asyncio.run(one.process(3))
    assert asked.pending(5) == [0, 1, 2, 4]
    before = asked.output.footer(3).metadata[DIGEST]
    traces = process(asked, asked.pending(5))
    assert asked.output.footer(3).metadata[DIGEST] == before
    assert traces == process(context(f"{bucket}/other", until={"correct": 2}), [0, 1, 2, 3, 4])
    assert len({t.id for t in traces}) == len(traces) == int(asked.output.counts()["traces"])
    assert all(isinstance(t, Trace) for t in traces)


def test_an_upload_that_fails_leaves_no_shard(bucket: str) -> None:
    asked = context(f"{bucket}/runs/demo")
    with pytest.raises(ZeroDivisionError), asked.output.atomic("part-00000.parquet") as sink:
        sink.write(b"half")
        1 / 0  # noqa: B018
    assert asked.output.done_shards() == []
