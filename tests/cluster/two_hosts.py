"""Two hosts on one machine: network namespaces with one cable between them, each with its own loopback and address."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.cluster.local_cluster import PATIENCE, RAY, ROOT, end

ADDRESSES = {"head": "10.77.0.1", "worker": "10.77.0.2"}
PORT = 6379
NODES = """
import ray
ray.init(log_to_driver=False)
print(*[node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]])
"""


class NotPermitted(RuntimeError):
    """This machine does not let us make network namespaces; the message is what it answered."""


def ip(*arguments: str) -> None:
    """One `ip` command."""
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError as error:
        raise NotPermitted("there is no `ip` command (package iproute2)") from error
    if done.returncode:
        raise NotPermitted(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class TwoHosts:
    """A head and a worker of one CPU each, every one in a namespace of its own, with a token; one shared disk."""

    def __init__(self, cpus: int = 1) -> None:
        self.cpus = cpus
        self.spaces = {name: f"ef-{os.getpid()}-{name}" for name in ADDRESSES}
        self.folder = Path(tempfile.mkdtemp(prefix="ef2-", dir="/tmp"))
        self.nodes: dict[str, subprocess.Popen[Any]] = {}
        token = self.folder / "auth_token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "GLOO_SOCKET_IFNAME": "eth0",  # gloo would ask the name service for this machine's one name
            "PYTHONPATH": str(ROOT),
        }
        try:
            self._lay_cable()
            options = ("--head", f"--port={PORT}", "--dashboard-host=127.0.0.1", f"--temp-dir={self.folder}/ray")
            self._start("head", *options)
            self._start("worker", f"--address={ADDRESSES['head']}:{PORT}")
        except BaseException:
            self.close()
            raise

    def _lay_cable(self) -> None:
        for space in self.spaces.values():
            ip("netns", "add", space)
        ends = {name: f"ef{os.getpid() % 100000}{name[0]}" for name in ADDRESSES}
        ip("link", "add", ends["head"], "type", "veth", "peer", "name", ends["worker"])
        for name, space in self.spaces.items():
            ip("link", "set", ends[name], "netns", space, "name", "eth0")
            ip("-n", space, "addr", "add", f"{ADDRESSES[name]}/24", "dev", "eth0")
            ip("-n", space, "link", "set", "eth0", "up")
            ip("-n", space, "link", "set", "lo", "up")

    def _start(self, name: str, *options: str) -> None:
        """Start a node and wait until it is known to the head."""
        command = ["start", "--block", f"--num-cpus={self.cpus}", "--num-gpus=0", "--object-store-memory=100000000"]
        command += [f"--node-ip-address={ADDRESSES[name]}", "--disable-usage-stats", *options]
        for _ in range(4):  # Ray gives a node 15 and 30 seconds for two of its steps; a busy machine needs more tries
            with (self.folder / f"{name}.log").open("ab") as log:
                self.nodes[name] = self.popen(name, *RAY, *command, stdout=log, stderr=log)
            deadline = time.monotonic() + PATIENCE
            while self.nodes[name].poll() is None and time.monotonic() < deadline:
                if self.addresses() >= {ADDRESSES[n] for n in self.nodes}:
                    return
                time.sleep(1)
            end(self.nodes.pop(name))
        raise AssertionError((self.folder / f"{name}.log").read_text()[-3000:])

    def addresses(self) -> set[str]:
        """Addresses of the living nodes, as the head tells a driver beside it; none while it does not answer."""
        process = self.popen("head", sys.executable, "-c", NODES, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            said, _ = process.communicate(timeout=PATIENCE / 2)
        except subprocess.TimeoutExpired:  # it waits for a head that ended while it came up; `_start` tries again
            end(process)
            return set()
        return set(said.decode().split()) if process.returncode == 0 else set()

    def popen(self, host: str, *command: str, **options: Any) -> subprocess.Popen[Any]:
        """A process on a host."""
        inside = ["ip", "netns", "exec", self.spaces[host], *command]
        environment = self.environment | {"RAY_ADDRESS": f"{ADDRESSES['head']}:{PORT}"}
        if "start" in command:
            del environment["RAY_ADDRESS"]
        return subprocess.Popen(inside, env=environment, cwd=ROOT, start_new_session=True, **options)

    def close(self) -> None:
        """End the nodes, the head last, and take the cable and the namespaces away."""
        for name in ("worker", "head"):
            if name in self.nodes:
                end(self.nodes.pop(name))
        for space in self.spaces.values():
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
