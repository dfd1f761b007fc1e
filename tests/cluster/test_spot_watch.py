"""The watcher for spot notices, against metadata services that answer as the clouds document."""

from __future__ import annotations

import contextlib
import datetime
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from jobs import spot_watch

NOW = 1_700_000_000.0


class Metadata(ThreadingHTTPServer):
    """Answers as EC2 (IMDSv2) and Compute Engine do. `end` is when the node is taken, or None."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.end: float | None = None
        self.failures = 0  # of the next questions
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Metadata

    def do_PUT(self) -> None:
        seconds = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        self.answer("session" if self.path == "/latest/api/token" and seconds else None)

    def do_GET(self) -> None:
        server = self.server
        server.asked.append(self.path)
        if server.failures:
            server.failures -= 1
            self.send_error(503)
        elif self.path == "/latest/meta-data/spot/instance-action":
            if self.headers.get("X-aws-ec2-metadata-token") != "session":
                self.send_error(401)
            elif server.end is None:
                self.answer(None)
            else:
                when = datetime.datetime.fromtimestamp(server.end, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                self.answer(json.dumps({"action": "terminate", "time": when}))
        elif self.path == "/computeMetadata/v1/instance/preempted":
            known = self.headers.get("Metadata-Flavor") == "Google"
            self.answer(("FALSE" if server.end is None else "TRUE") if known else None)
        else:
            self.answer(None)

    def answer(self, body: str | None) -> None:
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    server = Metadata()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def drained(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Calls of Ray's command line, which answers success."""
    calls: list[list[str]] = []

    class Done:
        returncode, stderr = 0, ""

    def run(command: list[str], **_options: Any) -> Done:
        calls.append(command)
        return Done()

    monkeypatch.setattr(spot_watch.subprocess, "run", run)
    return calls


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_no_notice(metadata: Metadata, cloud: str) -> None:
    assert spot_watch.NOTICES[cloud](metadata.base, NOW) is None


def test_aws_says_when(metadata: Metadata) -> None:
    metadata.end = NOW + 120
    assert spot_watch.aws_notice(metadata.base, NOW) == 120


def test_gcp_gives_thirty_seconds(metadata: Metadata) -> None:
    metadata.end = NOW
    assert spot_watch.gcp_notice(metadata.base, NOW) == spot_watch.GCP_GRACE


@pytest.mark.parametrize(("cloud", "least", "most"), [("aws", 90, 115), ("gcp", 20, 25)])
def test_a_notice_drains_the_node_once(
    metadata: Metadata, drained: list[list[str]], cloud: str, least: int, most: int
) -> None:
    metadata.end = time.time() + 120
    spot_watch.main(["--cloud", cloud, "--metadata", metadata.base, "--interval", "0.01", "--node-id", "ab"])
    (command,) = drained
    assert command[3:6] == ["drain-node", "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    left = int(command[command.index("--deadline-remaining-seconds") + 1])
    assert least <= left <= most  # before the cloud's own deadline
    assert command[-1] == "--node-id=ab"


def test_the_watcher_waits_through_silence_and_faults(
    metadata: Metadata, drained: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    metadata.failures = 3
    waiting = threading.Thread(
        target=spot_watch.main, args=(["--cloud", "aws", "--metadata", metadata.base, "--interval", "0.01"],)
    )
    waiting.start()
    while len(metadata.asked) < 10:
        assert waiting.is_alive() and drained == []
        time.sleep(0.01)
    metadata.end = time.time() + 60
    waiting.join(timeout=60)
    assert len(drained) == 1
    assert capsys.readouterr().out.count("no answer from") == 1  # said once, not at every question


def test_a_refused_drain_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused:
        returncode, stderr = 1, "no such node"

    monkeypatch.setattr(spot_watch.subprocess, "run", lambda *_a, **_k: Refused())
    monkeypatch.setattr(spot_watch.time, "sleep", lambda _seconds: None)
    with pytest.raises(RuntimeError, match="no such node"):
        spot_watch.drain(60, "test", [])


@contextlib.contextmanager
def titled(*titles: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes under the titles that Ray gives to its own."""
    found = [subprocess.Popen(["bash", "-c", 'exec -a "$0" sleep 600', title]) for title in titles]
    try:
        yield found
    finally:
        for process in found:
            process.kill()
            process.wait()


def table(folder: Path, processes: list[subprocess.Popen[bytes]]) -> Path:
    """A /proc with these processes alone: others of this machine may belong to a Ray."""
    for process in processes:
        (folder / str(process.pid)).symlink_to(f"/proc/{process.pid}")
        title = str(process.args[-1]).encode()  # type: ignore[index]
        while not (folder / str(process.pid) / "cmdline").read_bytes().startswith(title):
            time.sleep(0.01)  # it is still the shell that takes this title
    return folder


@pytest.mark.parametrize("title", ["ray::_MapWorker.submit", "ray::work()", "ray::RayTrainWorker"])
def test_a_task_or_an_actor_is_work(tmp_path: Path, title: str) -> None:
    with titled("ray::IDLE", title) as processes:
        assert spot_watch.works(table(tmp_path, processes))


def test_idle_workers_and_agents_are_no_work(tmp_path: Path) -> None:
    with titled("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent", "/usr/bin/raylet") as processes:
        assert not spot_watch.works(table(tmp_path, processes))
        processes[0].kill()
        processes[0].wait()  # its entry leads nowhere now
        assert not spot_watch.works(tmp_path)


@pytest.mark.parametrize(
    ("busy", "seconds"),
    [([False] * 3, 3), ([True, False, True, *[False] * 3], 6), ([True] * 99, 35)],
    ids=["idle", "until its work ends", "never idle"],
)
def test_now_drains_first_and_holds_the_pod_while_it_works(
    monkeypatch: pytest.MonkeyPatch, drained: list[list[str]], busy: list[bool], seconds: int
) -> None:
    now, slept, looks = [0.0], list[int](), iter(busy)

    def sleep(duration: float) -> None:
        slept.append(len(drained))
        now[0] += duration

    monkeypatch.setattr(spot_watch.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(spot_watch.time, "sleep", sleep)
    monkeypatch.setattr(spot_watch, "works", lambda: next(looks))
    spot_watch.main(["--now", "--grace", "35"])
    assert drained[0][drained[0].index("--deadline-remaining-seconds") + 1] == "30"
    assert slept == [1] * seconds  # a second each, all after the drain


@pytest.mark.parametrize("arguments", [[], ["--cloud", "azure"], ["--cloud", "aws", "--now"]])
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        spot_watch.main(arguments)
