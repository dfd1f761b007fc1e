"""The worker: killed at its deadline, replaced, bounded in memory, gone with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.verification.parser import parse
from app.verification.sandbox import Sandbox, SandboxError, SandboxTimeout, serialise

ROOT = Path(__file__).resolve().parents[2]
SLOW = serialise(parse("\\int_0^1 x^{x^{x^x}}\\sin(\\cos(x^{x})) dx"))
EASY = (serialise(parse("1/3")), serialise(parse("\\int_0^1 x^2 dx")))


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    box = Sandbox(deadline=3.0)
    yield box
    box.close()


def gone(pid: int, within: float = 20.0) -> bool:
    """Whether a process ends (or is left a zombie of init) within some seconds."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


def test_nothing_starts_before_it_is_needed() -> None:
    code = (
        "from app.verification import judge, sandbox\n"
        "judge('5', 'so \\\\boxed{x+5}')\n"
        "assert sandbox.shared().process is None\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=120).returncode == 0


def test_a_deadline_kills_one_request_and_no_other(sandbox: Sandbox) -> None:
    assert sandbox.call("same", *EASY) is True
    first = sandbox.process
    assert first is not None
    os.kill(first.pid, signal.SIGSTOP)  # slow on any machine
    with pytest.raises(SandboxTimeout):
        sandbox.call("same", *EASY)
    assert gone(first.pid)
    assert sandbox.call("same", *EASY) is True


def test_what_sympy_cannot_treat_is_an_error_of_its_request_alone(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError):
        sandbox.call("same", ["unknown", [], None], EASY[0])
    assert sandbox.call("same", *EASY) is True


def test_memory_is_bounded(sandbox: Sandbox) -> None:
    tower = ["pow", [["num", [], [3, 1]], ["num", [], [10**9, 1]]], None]
    with pytest.raises((SandboxError, SandboxTimeout)):
        sandbox.call("same", tower, ["add", [tower, ["num", [], [1, 1]]], None])
    assert sandbox.call("same", *EASY) is True


def test_workers_are_recycled() -> None:
    box = Sandbox(deadline=20.0, requests=1)
    try:
        box.call("same", *EASY)
        assert box.process is None
    finally:
        box.close()


def test_threads_share_it(sandbox: Sandbox) -> None:
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(sandbox.call("same", *EASY))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4


def test_a_worker_cannot_write_files_or_start_processes(sandbox: Sandbox) -> None:
    sandbox.call("same", *EASY)
    assert sandbox.process is not None
    limits = Path(f"/proc/{sandbox.process.pid}/limits").read_text()
    values = {line[:26].strip(): line[26:].split()[0] for line in limits.splitlines()[1:]}
    assert values["Max file size"] == "0"
    assert values["Max processes"] == "0"
    assert values["Max address space"] != "unlimited"


def test_no_orphan_when_the_parent_is_killed() -> None:
    code = (
        "import sys, threading\n"
        "from tests.verification.test_sandbox import EASY, SLOW\n"
        "from app.verification.sandbox import Sandbox\n"
        "box = Sandbox(deadline=60.0)\n"
        "box.call('same', *EASY)\n"
        "print(box.process.pid, flush=True)\n"
        "box.call('same', SLOW, EASY[0])\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    time.sleep(0.3)  # let it begin the slow request
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert gone(worker)


def test_no_orphan_after_a_normal_exit() -> None:
    code = (
        "from app.verification import judge, sandbox\n"
        "assert judge('1/3', '\\\\boxed{\\\\int_0^1 x^2 dx}').correct\n"
        "print(sandbox.shared().process.pid)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert gone(int(done.stdout))
