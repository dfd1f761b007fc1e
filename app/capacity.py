"""Whether the cluster has room for what a stage asks, and a clear word where it has not.

Nothing here stops a stage that may still get its nodes: an autoscaler starts them by the same demand. Only on a private
Ray, which nothing can join, a request that does not fit is an error at once.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import ray

from app.errors import UserError

CHECK = 20.0  # seconds between looks at the cluster
EVERY_NODE = ("ray.io/node-id", "ray.io/node-group")  # labels by Ray itself that tell a reader nothing
REPEAT = 600.0  # seconds until an unchanged message is said again


@dataclass(frozen=True)
class Need:
    """`count` actors or workers of one size, on nodes with these labels."""

    count: int
    cpus: float
    gpus: float = 0
    labels: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.count} x ({_amounts(self.cpus, self.gpus, self.labels)})"


@dataclass(frozen=True)
class Node:
    """What a living node has in all."""

    cpus: float
    gpus: float
    labels: Mapping[str, str]

    def room(self, need: Need) -> int:
        """How many of the need it could hold, were it empty; at most `count`."""
        if not all(matches(value, self.labels.get(name)) for name, value in need.labels.items()):
            return 0
        fits = [need.count]
        fits += [int(has / wants + 1e-9) for has, wants in ((self.cpus, need.cpus), (self.gpus, need.gpus)) if wants]
        return min(fits)


def matches(wanted: str, has: str | None) -> bool:
    """Whether a node's label (None: it has none of that name) is what a selector asks for, by Ray's rules."""
    negated, value = wanted.startswith("!"), wanted.removeprefix("!")
    listed = value.removeprefix("in(").removesuffix(")") if value.startswith("in(") else value
    return (has in {one.strip() for one in listed.split(",")}) != negated


def shortage(need: Need, nodes: list[Node], field_name: str) -> str | None:
    """What is missing for all of the need, None where it fits; `field_name` is the recipe's part that asks for it."""
    room = sum(node.room(need) for node in nodes)
    if room >= need.count:
        return None
    alike = Counter(_amounts(node.cpus, node.gpus, node.labels) for node in nodes)
    has = "; ".join(f"{number} x ({node})" for node, number in sorted(alike.items())) or "no node"
    return f"the cluster has room for {room} of {need}: it has {has}. Add nodes, or change {field_name}"


def _amounts(cpus: float, gpus: float, labels: Mapping[str, str]) -> str:
    own = [f"{name}={value}" for name, value in sorted(labels.items()) if name not in EVERY_NODE]
    return ", ".join([f"{cpus:g} CPU"] + ([f"{gpus:g} GPU"] if gpus else []) + own)


def nodes() -> list[Node]:
    """The living nodes."""
    return [
        Node(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0), node["Labels"])
        for node in ray.nodes()
        if node["Alive"]
    ]


@contextlib.contextmanager
def watched(
    need: Need,
    field_name: str,
    say: Callable[[str], None],
    started: Callable[[], int] | None = None,
    check: float = CHECK,
) -> Iterator[None]:
    """While the block runs, say what is missing whenever the cluster is too small, and again every REPEAT seconds.

    Args:
        started: how many actors have begun so far; where none has although there is room, others hold that room. None
            for workers that begin all together or not at all.

    Raises UserError at once where too few fit to begin and the Ray is this process's own.
    """
    missing = shortage(need, nodes(), field_name)
    if missing and not os.environ.get("RAY_ADDRESS") and not (started and any(node.room(need) for node in nodes())):
        raise UserError(missing)
    done = threading.Event()

    def watch() -> None:
        told, when = "", 0.0
        while not done.wait(check):
            missing = shortage(need, nodes(), field_name)
            text = f"waiting or slower than asked: {missing}" if missing else ""
            if not text and started and not started():
                text = f"waiting for {need}: there is room, but other work holds it"
            if text and (text != told or time.monotonic() - when >= REPEAT):
                say(text)
                told, when = text, time.monotonic()

    thread = threading.Thread(target=watch, name="capacity", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
