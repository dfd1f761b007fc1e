"""A Ray cluster of several nodes on this machine, started as users start it: `ray start`, a token file, the Jobs API.

Everything lives in a folder of its own and is ended by process id. Drivers run in processes of their own, so that it
does not matter which Ray the test process may hold.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).parents[2]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
TRIES = 6  # to start a node
PATIENCE = 240  # seconds until something that should happen counts as failed; busy machines are slow


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end(process: subprocess.Popen[Any], how: int = signal.SIGKILL) -> None:
    """End a process and all it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in reversed(family):
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(how)
        psutil.wait_procs(family, timeout=20)
    process.wait(timeout=20)


class LocalCluster:
    """A head and workers; `environment` is what a driver or a command needs to reach it."""

    def __init__(
        self,
        head_cpus: int = 0,
        one_host: bool = False,
        head_options: tuple[str, ...] = (),
        head_environment: dict[str, str] | None = None,
        gcs_port: int | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="efc-", dir="/tmp"))  # short: sockets' paths have a limit
        self.token_file = self.folder / "auth_token"
        self.token_file.write_text(secrets.token_hex(32))
        self.token_file.chmod(0o600)
        self.gcs_port, self.dashboard_port = gcs_port or free_port(), free_port()
        self.address = f"127.0.0.1:{self.gcs_port}"  # Ray makes it the host's own address where it needs to
        self.dashboard = f"http://127.0.0.1:{self.dashboard_port}"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}",
        }
        if one_host:
            self.environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's name for: loopback, no second node
        self.head_environment = head_environment or {}  # variables of the head alone
        self.nodes: dict[str, subprocess.Popen[Any]] = {}
        self.metrics_ports: dict[str, int] = {}
        try:
            self._start_head(head_cpus, head_options)
        except BaseException:
            self.close()
            raise

    @property
    def token(self) -> str:
        return self.token_file.read_text()

    def _start_head(self, cpus: int, options: tuple[str, ...]) -> None:
        options = (
            "--head", f"--port={self.gcs_port}", f"--temp-dir={self.folder}/ray", "--dashboard-host=127.0.0.1",
            f"--dashboard-port={self.dashboard_port}", f"--ray-client-server-port={free_port()}", *options,
        )  # fmt: skip
        for _ in range(TRIES):
            head = self._start("head", cpus, *options)
            while head.poll() is None:
                if self.answers():
                    return
                time.sleep(0.5)
            end(self.nodes.pop("head"))
        raise AssertionError((self.folder / "head.log").read_text()[-3000:])

    def _start(self, name: str, cpus: int, *options: str) -> subprocess.Popen[Any]:
        command = [*RAY, "start", "--block", f"--num-cpus={cpus}", *options]
        command += ["--object-store-memory=100000000", "--disable-usage-stats", "--num-gpus=0"]
        self.metrics_ports[name] = free_port()
        command += [f"--dashboard-agent-listen-port={free_port()}", f"--metrics-export-port={self.metrics_ports[name]}"]
        environment = self.environment | (self.head_environment if name == "head" else {})
        with (self.folder / f"{name}.log").open("ab") as log:
            self.nodes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True, cwd=self.folder
            )
        return self.nodes[name]

    def add_node(self, name: str, cpus: int = 1, labels: dict[str, str] | None = None) -> None:
        """Start one more node and wait until it has joined; it holds a resource of its name.

        Ray gives a node 15 and 30 seconds for two of its steps, whatever the machine; a busy one needs several tries.
        """
        options = [f"--labels={','.join(f'{k}={v}' for k, v in labels.items())}"] if labels else []
        for _ in range(TRIES):
            node = self._start(name, cpus, f"--address={self.address}", f'--resources={{"{name}": 1}}', *options)
            while node.poll() is None:
                if self.node_id(name) is not None:
                    return
                time.sleep(0.5)
            end(self.nodes.pop(name))
        raise AssertionError((self.folder / f"{name}.log").read_text()[-3000:])

    def node_id(self, name: str) -> str | None:
        """Ray's id of a living node that `add_node` started."""
        return next((found for found, resources in self.alive().items() if name in resources), None)

    def kill_node(self, name: str) -> None:
        """Lose a node as a spot node is lost: every process at once, without a word."""
        end(self.nodes.pop(name))

    def alive(self) -> dict[str, dict[str, Any]]:
        """Total resources of the living nodes by their ids, as the dashboard tells; none while it does not answer."""
        try:
            nodes = self.get("/nodes?view=summary").json()["data"]["summary"]
        except httpx.TransportError:
            return {}
        return {
            node["raylet"]["nodeId"]: node["raylet"].get("resourcesTotal", {})
            for node in nodes
            if node["raylet"]["state"] == "ALIVE"
        }

    def submit(self, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """`ray job submit`, to the end of the job."""
        return subprocess.run(
            [*RAY, "job", "submit", f"--address={self.dashboard}", *options, "--", *command],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=ROOT,
            timeout=2 * PATIENCE,
            check=False,
        )

    def get(self, path: str, token: str | None = None) -> httpx.Response:
        """A GET to the dashboard, with the cluster's token or another."""
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        return httpx.get(self.dashboard + path, headers=headers if token != "" else {}, timeout=30, trust_env=False)

    def answers(self) -> bool:
        """Whether the Jobs API is up."""
        try:
            return self.get("/api/jobs/").status_code == 200
        except httpx.TransportError:
            return False

    def wait_for(self, reached: Any, what: str) -> None:
        """Poll until `reached()`; fails after PATIENCE seconds."""
        deadline = time.monotonic() + PATIENCE
        while not reached():
            dead = [name for name, process in self.nodes.items() if process.poll() is not None]
            if dead or time.monotonic() > deadline:
                logs = "\n".join(p.read_text()[-2000:] for p in self.folder.glob("*.log"))
                raise AssertionError(f"waiting for {what}: ended early: {dead}\n{logs}")
            time.sleep(0.5)

    def processes(self) -> Iterator[psutil.Process]:
        """Every process of every node."""
        for node in self.nodes.values():
            parent = psutil.Process(node.pid)
            yield parent
            yield from parent.children(recursive=True)

    def mine(self) -> list[psutil.Process]:
        """Every process on this machine that has this cluster's folder or address in its command line."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = " ".join(process.cmdline())
                if (str(self.folder) in words or self.address in words) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def close(self) -> None:
        """End all nodes, the head last, and remove the folder."""
        for name in sorted(self.nodes, key=lambda n: n == "head"):
            end(self.nodes[name])
        psutil.wait_procs(self.mine(), timeout=30)  # workers end by themselves when their node is gone
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def local_cluster(head_cpus: int = 0, one_host: bool = False) -> Iterator[LocalCluster]:
    cluster = LocalCluster(head_cpus, one_host)
    try:
        yield cluster
    finally:
        cluster.close()
