"""Runs a part's cases in a process apart, with time limits: a crash, an out-of-memory or a hang is a row.

The command stays free of torch: what happens to a part cannot happen to it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts.case import FAILED, SKIPPED, Setup, absent
from benchmarks.table import Row

POLL = 0.1  # seconds
START = 180.0  # seconds for a part to import what it needs and say its cases


@dataclass
class Heard:
    """What a process has said so far. Rows go to `add` as they come."""

    add: Callable[[list[Row]], None]
    next: int  # the case that begins next, or is running
    cases: list[str] | None = None
    failed: bool = False  # a case, whose row says so
    since: float = field(default_factory=time.monotonic)  # when the case began, or the process did
    limit: float = START  # seconds it may take

    def hear(self, line: str) -> None:
        said: dict[str, Any] = json.loads(line)
        if "cases" in said:
            self.cases = said["cases"]
        elif "begin" in said:
            self.since, self.limit = time.monotonic(), said["seconds"]
        else:
            self.add([Row(**row) for row in said["rows"]])
            self.next, self.failed = said["end"] + 1, said["failed"]


def run(module: str, setup: Setup, deadline: float, say: Callable[[Row], None]) -> list[Row]:
    """The rows of a part, one at least for each of its cases. `deadline` is a monotonic time, at which it must be over;
    `say` gets each row when it is there.
    """
    part = module.rpartition(".")[2]
    rows: list[Row] = []

    def add(new: list[Row]) -> None:
        for one in new:
            rows.append(replace(one, machine=setup.machine))
            say(rows[-1])

    if time.monotonic() >= deadline:
        add([absent(part, f"{SKIPPED}no time left")])
        return rows
    start = 0
    while True:
        heard, why = _attempt(module, setup, Heard(add, start), deadline)
        if heard.cases is None:
            add([absent(part, why)])
            return rows
        start = heard.next
        if why and start < len(heard.cases):  # it ended in the middle of a case
            add([absent(heard.cases[start], why)])
            start += 1
        if time.monotonic() >= deadline:
            add([absent(name, f"{SKIPPED}no time left") for name in heard.cases[start:]])
            return rows
        if start == len(heard.cases):
            return rows


def _attempt(module: str, setup: Setup, heard: Heard, deadline: float) -> tuple[Heard, str]:
    """One process, from the next case on: what it said, and why it stopped where it was not between two cases."""
    with tempfile.TemporaryDirectory() as folder:
        said, errors = Path(folder, "results.jsonl"), Path(folder, "errors")
        said.touch()
        command = [sys.executable, "-m", "benchmarks.gpu_parts.part", module, str(said), str(heard.next)]
        environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "TMPDIR": folder, "TQDM_DISABLE": "1"}
        with errors.open("wb") as err, said.open(encoding="utf-8") as lines:
            process = subprocess.Popen(
                [*command, json.dumps(asdict(setup))],
                env=environment,
                stdout=err,
                stderr=err,
                start_new_session=True,
            )
            try:
                stopped = _follow(process, heard, lines, deadline)
            finally:
                _end(process)
        if stopped or process.returncode == 0:
            return heard, stopped
        if process.returncode == 1 and heard.failed:
            return heard, ""  # the row of the case says why
        return heard, FAILED + _last_words(process.returncode, errors)


def _follow(process: subprocess.Popen[bytes], heard: Heard, lines: Any, deadline: float) -> str:
    """Listen until the process ends; why it had to be stopped, where it had to."""
    kept = ""
    while True:
        over = process.poll() is not None
        while piece := lines.readline():
            kept += piece
            if kept.endswith("\n"):
                heard.hear(kept)
                kept = ""
        if over:
            return ""
        spent = time.monotonic() - heard.since
        if spent > heard.limit:
            return f"{FAILED}stopped after {spent:.0f} s"
        if time.monotonic() > deadline:
            return f"{SKIPPED}no time left after {spent:.0f} s of it"
        time.sleep(POLL)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and all it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_words(status: int, errors: Path) -> str:
    """How a process ended and the last line it wrote."""
    how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    lines = [line for line in errors.read_text(errors="replace").splitlines() if line.strip()]
    return f"{how}: {lines[-1][:300]}" if lines else how
