"""One job a run: a file's lock on a disk, a lease in a bucket."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app import pipeline
from app import run_lock as locks
from app.conditional_file import GcsFile, Refused, S3File, Seen, Unconditional, conditional_file
from app.errors import UserError
from app.lease import Lease, Times
from app.recipe import Recipe
from app.remote_folder import RemoteFile
from app.run_lock import run_lock
from app.stage import Stage, StageContext
from app.store import Output
from tests.gcs import gcs_server

ROOT = Path(__file__).parents[1]
RECIPE = Recipe.model_validate({"name": "t", "problems": {"train": 1, "validation": 1, "test": 1}})
NEVER = 3600.0  # seconds
DEAD = Times(lease=0, beat=NEVER, look=0.01)  # an owner that is not heard of again, and whose lease is over
SILENT = Times(lease=NEVER, beat=NEVER, look=0.01)
LIVELY = Times(lease=NEVER, beat=0.02, look=0.01)


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# -- on a disk --------------------------------------------------------------------------------------------------------


def hold(root: str, held: object, release: object) -> None:
    with run_lock(root):
        held.set()  # type: ignore[attr-defined]
        release.wait(60)  # type: ignore[attr-defined]


def test_a_second_process_is_told_who_holds_the_run(tmp_path: Path) -> None:
    forking = multiprocessing.get_context("fork")
    held, release = forking.Event(), forking.Event()
    process = forking.Process(target=hold, args=(str(tmp_path), held, release))
    process.start()
    assert held.wait(60)
    with pytest.raises(UserError, match=rf"in use by pid {process.pid} on .*another name"), run_lock(str(tmp_path)):
        pass
    release.set()
    process.join(60)
    with run_lock(str(tmp_path)):
        assert f"pid {os.getpid()} " in (tmp_path / ".lock").read_text()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    forking = multiprocessing.get_context("fork")
    held = forking.Event()
    process = forking.Process(target=hold, args=(str(tmp_path), held, forking.Event()))
    process.start()
    assert held.wait(60)
    process.kill()
    process.join(60)
    with run_lock(str(tmp_path)):
        assert f"pid {os.getpid()} " in (tmp_path / ".lock").read_text()


def test_the_lock_is_free_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ValueError), run_lock(str(tmp_path / "new" / "run")):
        raise ValueError
    with run_lock(str(tmp_path / "new" / "run")):
        pass


def test_a_file_uri_is_locked_as_its_path_is(tmp_path: Path) -> None:
    with (
        run_lock(f"file://{tmp_path}/run"),
        pytest.raises(UserError, match="in use by pid"),
        run_lock(f"{tmp_path}/run"),
    ):
        pass


# -- conditional writes -----------------------------------------------------------------------------------------------


@pytest.fixture(params=["s3", "gs"])
def root(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a run lies: in a bucket of an S3 server, or of a stand-in that keeps GCS's conditions."""
    if request.param == "s3":
        yield f"{request.getfixturevalue('bucket')}/runs/a run"
        return
    with gcs_server() as endpoint:
        monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", endpoint)
        yield "gs://bucket/runs/a run"


def file_at(root: str) -> S3File | GcsFile:
    file = conditional_file(f"{root}/.lock")
    assert isinstance(file, S3File | GcsFile)
    return file


def test_a_file_is_written_only_where_nobody_else_wrote_it(root: str) -> None:
    mine, other = file_at(root), file_at(root)
    assert mine.read() is None
    with pytest.raises(Refused):
        mine.write("x", after='"0123"' if root.startswith("s3") else "123")
    first = mine.write("one", after=None)
    with pytest.raises(Refused):
        other.write("two", after=None)
    second = other.write("two", after=first)
    with pytest.raises(Refused):
        mine.write("three", after=first)
    seen = mine.read()
    assert seen and (seen.text, seen.version) == ("two", second)
    assert 0 <= seen.age < 60


def test_storage_that_does_not_answer_is_an_oserror(monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    for name in ("AWS_ENDPOINT_URL", "CLOUD_STORAGE_EMULATOR_ENDPOINT"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(OSError):
        file_at(root).read()
    with (
        pytest.raises(UserError, match=rf"{root}: the run's lock cannot be written: .*Mend the access"),
        run_lock(root),
    ):
        pass


# -- leases -----------------------------------------------------------------------------------------------------------


def lease(root: str, times: Times) -> Lease:
    return Lease(root, file_at(root), times)


def test_a_second_job_is_told_who_has_the_run(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    owner = lease(root, LIVELY)
    owner.take()
    message = (
        rf"^{root}: in use by pid {os.getpid()} on {os.uname().nodename} since 2\d{{3}}-.*pytest.*; "
        r"wait for it, or give this run another name$"
    )
    with pytest.raises(UserError, match=message):
        lease(root, LIVELY).take()
    assert "waiting to see whether it lives" in capsys.readouterr().err
    owner.check()
    owner.release()
    lease(root, LIVELY).take()


def test_a_dead_owners_run_is_taken_over_and_the_dead_one_stops_if_it_was_not(root: str) -> None:
    dead, heir = lease(root, DEAD), lease(root, SILENT)
    dead.take()
    heir.take()
    assert dead.held
    dead._renew()
    assert not dead.held and heir.held
    with pytest.raises(UserError, match=rf"{root}: .* was taken over by pid {os.getpid()} on .*It stops here"):
        dead.check()
    dead.release()  # gives back nothing that is another's
    heir._renew()
    heir.check()
    seen = heir.file.read()
    assert seen and json.loads(seen.text)["token"] == heir.owner["token"] and not json.loads(seen.text)["free"]


def test_a_job_waits_for_the_end_of_a_dead_owners_lease(root: str) -> None:
    lease(root, Times(lease=2, beat=NEVER)).take()
    began = time.monotonic()
    lease(root, SILENT).take()
    assert time.monotonic() - began > 0.5  # the storage's clock shows whole seconds


def test_of_many_jobs_one_gets_the_run(root: str) -> None:
    lease(root, DEAD).take()
    got: list[Lease] = []

    def want() -> None:
        one = lease(root, LIVELY)
        try:
            one.take()
        except UserError:
            return
        got.append(one)

    jobs = [threading.Thread(target=want) for _ in range(6)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
    [owner] = got
    owner._renew()
    owner.check()
    owner.release()


def test_a_lock_that_was_deleted_is_made_again(bucket: str) -> None:
    owner = lease(bucket, SILENT)
    owner.take()
    RemoteFile(f"{bucket}/.lock").unlink()
    owner._renew()
    owner._renew()
    owner.check()
    seen = owner.file.read()
    assert seen and owner.owner["token"] in seen.text


def test_a_file_that_is_no_lock_is_named(bucket: str) -> None:
    RemoteFile(f"{bucket}/run/.lock").write_text("hello")
    with pytest.raises(UserError, match=rf"{bucket}/run/.lock: no lock of a run; delete it"), run_lock(f"{bucket}/run"):
        pass


class Memory:
    """A file whose storage misbehaves as told."""

    def __init__(self, sure: bool = True) -> None:
        self.sure, self.text, self.version = sure, "", 0
        self.fails = 0  # writes that end in an error
        self.error: Exception = OSError("no route")
        self.loses = 0  # writes whose answer is lost, so that they are tried again and refused
        self.heeds = True

    def read(self) -> Seen | None:
        return Seen(self.text, str(self.version), 0.0) if self.version else None

    def write(self, text: str, after: str | None) -> str:
        if self.fails:
            self.fails -= 1
            raise self.error
        if self.heeds and after != (str(self.version) if self.version else None):
            raise Refused
        self.text, self.version = text, self.version + 1
        if self.loses:
            self.loses -= 1
            raise Refused
        return str(self.version)


def test_an_answer_that_got_lost_costs_nothing() -> None:
    file = Memory()
    owner = Lease("s3://b/run", file, SILENT)
    file.loses = 1
    owner.take()
    file.loses = 1
    owner._renew()
    owner.check()
    owner._renew()
    assert owner.held and owner.version == str(file.version)


@pytest.mark.parametrize("error", [OSError("no route"), KeyError("NO_PROXY")])  # a variable that went while it was read
def test_an_outage_is_said_once_and_outlived(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    file = Memory()
    file.error = error
    owner = Lease("s3://b/run", file, LIVELY)
    owner.take()
    file.fails = 3
    wait_for(lambda: not file.fails)
    before = file.version
    wait_for(lambda: file.version > before)
    owner.check()
    owner.release()
    assert json.loads(file.text)["free"]
    assert capsys.readouterr().err.count(f"its lock cannot be renewed; trying again: {error!r}") == 1


def test_storage_that_ignores_conditions_is_found_out() -> None:
    file = Memory(sure=False)
    Lease("s3://b/run", file, SILENT).take()
    file.heeds = False
    file.text = json.dumps({"free": True})
    with pytest.raises(Unconditional):
        Lease("s3://b/run", file, SILENT).take()
    assert json.loads(file.text)["free"]


def test_storage_without_a_lock_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with run_lock("hdfs://host/runs/one") as lock:
        assert lock.held
    told = "warning: hdfs://host/runs/one is not locked: its storage has no conditional writes. Two jobs on this run"
    assert told in capsys.readouterr().err


# -- jobs -------------------------------------------------------------------------------------------------------------


def go(monkeypatch: pytest.MonkeyPatch, root: str, act: Callable[[StageContext], None]) -> None:
    """A run of one stage."""
    monkeypatch.setattr(pipeline, "build", lambda _recipe: [Stage("sampling", act, {})])
    pipeline.run(RECIPE, root)


def test_a_run_in_a_bucket_is_locked_while_it_runs(monkeypatch: pytest.MonkeyPatch, bucket: str) -> None:
    monkeypatch.setattr(locks, "TIMES", LIVELY)
    told: list[str] = []

    def act(_context: StageContext) -> None:
        try:
            with run_lock(f"{bucket}/run"):
                pass
        except UserError as error:
            told.append(str(error))
        raise UserError("row 3: no answer")

    for _ in range(2):  # free again after a failure
        with pytest.raises(UserError, match="row 3"):
            go(monkeypatch, f"{bucket}/run", act)
    assert len(told) == 2 and all("in use by pid" in each for each in told)


def test_a_job_whose_run_was_taken_over_stops_and_writes_nothing_more(
    monkeypatch: pytest.MonkeyPatch, bucket: str
) -> None:
    root = f"{bucket}/run"
    monkeypatch.setattr(locks, "TIMES", Times(lease=0, beat=0.5, look=0.01))
    heir, journal, stage = lease(root, SILENT), Output(root, "", ""), threading.Event()

    def act(_context: StageContext) -> None:
        heir.take()
        journal.write_json("progress.json", {"state": "the heir's"})
        stage.wait(60)

    with pytest.raises(UserError, match=r"was taken over by pid .*It stops here"):
        go(monkeypatch, root, act)
    stage.set()
    time.sleep(0.2)  # what the stage's thread does at its end
    assert journal.read_json("progress.json") == {"state": "the heir's"}
    heir.release()


HOLD = """
import signal
signal.signal(signal.SIGINT, signal.SIG_DFL)  # also where the tests run in the background
import sys
from app.entry import begin
begin()
from app.run_lock import run_lock
with run_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_job_gives_its_run_back(bucket: str, number: signal.Signals) -> None:
    command = [sys.executable, "-c", HOLD, f"{bucket}/run"]
    job = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert job.stdin and job.stdout and job.stdout.readline() == "held\n"
    seen = file_at(f"{bucket}/run").read()
    assert seen and not json.loads(seen.text)["free"]
    job.send_signal(number)
    assert job.wait(60) == 128 + number
    seen = file_at(f"{bucket}/run").read()
    assert seen and json.loads(seen.text)["free"]
    job.stdin.close()
    job.stdout.close()
