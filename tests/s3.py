"""A real S3 server process on this machine, for tests of runs in object storage."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx

PATIENCE = 120  # seconds for the server to answer; busy machines are slow


@contextlib.contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """Start it; yields the environment in which pyarrow finds it."""
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
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert server.poll() is None, "the S3 server ended"
        try:
            httpx.get(url)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the S3 server did not answer in time")


def make_bucket(name: str, environment: dict[str, str]) -> str:
    """Its address."""
    from pyarrow import fs

    fs.S3FileSystem(allow_bucket_creation=True, endpoint_override=environment["AWS_ENDPOINT_URL"]).create_dir(name)
    return f"s3://{name}"
