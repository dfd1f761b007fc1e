"""A run in object storage belongs to one job at a time: a lease that its owner renews, and that ends without it.

    URI/.lock     who holds the run, written again every BEAT seconds; without a word for LEASE seconds it is free

Every write names the version it comes after, so of two jobs that want a run one gets it, and a job that was thought
dead finds out at its next renewal that the run is another's. Ages are by the storage's clock alone: the clocks of nodes
may differ. An outage of the storage costs nothing as long as nobody else takes the run.
"""

from __future__ import annotations

import datetime
import json
import os
import shlex
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

from app.conditional_file import ConditionalFile, Refused, Seen, Unconditional
from app.errors import UserError

LONGEST = 200  # characters of a command that are shown


@dataclass(frozen=True)
class Times:
    """Seconds."""

    lease: float = 60.0  # without a word from its owner a lease ends
    beat: float = 15.0  # between an owner's words
    look: float = 3.0  # between looks of a job that waits to see whether the owner lives


class Lease:
    """The lock of the run at `root`, kept in `file`. `take` it before use, `release` it after."""

    def __init__(self, root: str, file: ConditionalFile, times: Times) -> None:
        self.root, self.file, self.times = root, file, times
        self.owner: dict[str, Any] = {
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": shlex.join([os.path.basename(sys.orig_argv[0]), *sys.orig_argv[1:]])[:LONGEST],
            "lease": times.lease,
            "token": uuid.uuid4().hex,
        }
        self.version: str | None = None
        self.beats = 0
        self.lost = ""  # who has the run now, where it is not this job any more
        self._over = threading.Event()
        self._writing = threading.Lock()

    @property
    def held(self) -> bool:
        """Whether the run is still this job's, as far as it knows."""
        return not self.lost

    def check(self) -> None:
        """Raise UserError where another job took the run."""
        if self.lost:
            raise UserError(
                f"{self.root}: this job was not heard of for {self.times.lease:g} s, and the run was taken over by "
                f"{self.lost}. It stops here; what is finished is safe, and the other job goes on with it"
            )

    def take(self) -> None:
        """Get the lease and keep it. Raises UserError where its owner lives, OSError where the storage fails,
        Unconditional where no lock can be built on it.
        """
        waiting: Seen | None = None
        while True:
            seen = self.file.read()
            if seen and not self._free(seen):
                if waiting and seen.version != waiting.version:
                    raise UserError(f"{self.root}: in use by {_name(seen)}; wait for it, or give this run another name")
                if not waiting:
                    waiting = seen
                    print(f"{self.root}: held by {_name(seen)}; waiting to see whether it lives", file=sys.stderr)
                time.sleep(self.times.look)
                continue
            try:
                self.version = self.file.write(self._text(), seen.version if seen else None)
            except Refused:
                if not self._wrote(self.file.read()):
                    continue
            break
        self._prove()
        threading.Thread(target=self._keep, name="lease", daemon=True).start()

    def release(self) -> None:
        """Give it back, if it is still this job's. Later calls do nothing."""
        self._over.set()
        with self._writing:
            if self.version is None or self.lost:
                return
            try:
                self.file.write(self._text(free=True), self.version)
            except Refused:
                self.lost = "another job"  # which took it in the last seconds
            except OSError as error:
                print(f"{self.root}: its lock ends by itself in {self.times.lease:g} s: {error}", file=sys.stderr)
            self.version = None

    def _free(self, seen: Seen) -> bool:
        try:
            owner = json.loads(seen.text)
            return bool(owner["free"]) or seen.age >= float(owner["lease"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.root}/.lock: no lock of a run; delete it where no job works on the run") from error

    def _text(self, free: bool = False) -> str:
        """Never the same twice: S3's versions are digests of what is written."""
        self.beats += 1
        return json.dumps(self.owner | {"beat": self.beats, "free": free})

    def _prove(self) -> None:
        """Raise Unconditional where a write is taken that must be refused."""
        if self.file.sure:
            return
        try:
            self.file.write(self._text(free=True), None)
        except Refused:
            return
        raise Unconditional

    def _keep(self) -> None:
        """Renew it until the end. Whatever goes wrong is said once, and tried again: a lease must not end unseen."""
        silent = False
        while self.held and not self._over.wait(self.times.beat):
            try:
                self._renew()
                silent = False
            except Exception as error:
                if not silent:
                    print(f"{self.root}: its lock cannot be renewed; trying again: {error!r}", file=sys.stderr)
                silent = True

    def _renew(self) -> None:
        with self._writing:
            if self._over.is_set():
                return
            try:
                self.version = self.file.write(self._text(), self.version)
            except Refused:
                seen = self.file.read()
                if seen is None:  # somebody deleted it: the next write makes it anew
                    self.version = None
                elif not self._wrote(seen):
                    self.lost = _name(seen)

    def _wrote(self, seen: Seen | None) -> bool:
        """Whether this job wrote what is there: an answer may get lost on its way, and the write be tried again."""
        if seen is None or self.owner["token"] not in seen.text:
            return False
        self.version = seen.version
        return True


def _name(seen: Seen) -> str:
    """Who holds a lease, in words."""
    try:
        owner = json.loads(seen.text)
        who = f"pid {owner['pid']} on {owner['host']} since {owner['since']} ({owner['command']})"
    except (ValueError, KeyError, TypeError):
        who = "somebody who left no name"
    return f"{who}, last heard of {seen.age:.0f} s ago"
