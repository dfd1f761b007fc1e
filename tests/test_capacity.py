"""What is missing for a stage, in words; label rules as Ray's."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import capacity
from app.capacity import Need, Node, matches, shortage, watched
from app.errors import UserError

HEAD = Node(0, 0, {"role": "head"})
SAMPLER = Node(4, 1, {"role": "sampler", "market": "spot", "ray.io/node-id": "abc"})
VERIFIER = Node(16, 0, {"role": "verifier"})


@pytest.mark.parametrize(
    ("wanted", "has", "same"),
    [
        ("spot", "spot", True),
        ("spot", "on-demand", False),
        ("spot", None, False),
        ("!spot", "spot", False),
        ("!spot", "on-demand", True),
        ("!spot", None, True),
        ("in(a, b)", "b", True),
        ("in(a,b)", "c", False),
        ("in(a,b)", None, False),
        ("!in(a,b)", "a", False),
        ("!in(a,b)", None, True),
        ("inner", "inner", True),
    ],
)
def test_labels_match_as_in_ray(wanted: str, has: str | None, same: bool) -> None:
    assert matches(wanted, has) == same


def test_what_fits_is_no_shortage() -> None:
    assert shortage(Need(2, 4, 1, {"role": "sampler"}), [HEAD, SAMPLER, SAMPLER], "placement.sampling") is None
    assert shortage(Need(1, 0), [HEAD], "placement.sampling") is None  # no CPU asked for: the head will do


def test_tenths_of_a_cpu_are_not_lost_to_rounding() -> None:
    assert Node(0.3, 0, {}).room(Need(10, 0.1)) == 3 and Node(1, 0, {}).room(Need(20, 0.1)) == 10


def test_a_shortage_names_what_is_asked_what_there_is_and_what_to_change() -> None:
    told = shortage(Need(3, 1, 1, {"role": "sampler"}), [HEAD, SAMPLER, SAMPLER, VERIFIER], "placement.sampling")
    assert told == (
        "the cluster has room for 2 of 3 x (1 CPU, 1 GPU, role=sampler): it has 1 x (0 CPU, role=head); "
        "1 x (16 CPU, role=verifier); 2 x (4 CPU, 1 GPU, market=spot, role=sampler). "
        "Add nodes, or change placement.sampling"
    )
    assert "it has no node" in str(shortage(Need(1, 1), [], "placement"))


@given(st.integers(1, 50), st.floats(0.1, 8), st.sampled_from([0, 0.5, 1, 2]), st.integers(0, 4))
def test_room_is_never_more_than_fits(count: int, cpus: float, gpus: float, copies: int) -> None:
    need = Need(count, cpus, gpus)
    room = SAMPLER.room(need)
    assert room <= count and room * cpus <= SAMPLER.cpus + 1e-9 and room * gpus <= SAMPLER.gpus
    assert (shortage(need, [SAMPLER] * copies, "x") is None) == (room * copies >= count)


class Cluster:
    """Nodes that change, and what is said about them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *nodes: Node) -> None:
        self.nodes, self.said, self.heard = list(nodes), [], threading.Event()
        monkeypatch.setattr(capacity, "nodes", lambda: self.nodes)
        monkeypatch.setenv("RAY_ADDRESS", "somewhere:1")

    def say(self, text: str) -> None:
        self.said.append(text)
        self.heard.set()

    def watch(self, need: Need, started: int = 0):
        return watched(need, "placement.sampling", self.say, lambda: started, check=0.01)


def test_a_small_cluster_is_told_once_not_at_every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, SAMPLER)
    with cluster.watch(Need(2, 1, 1)):
        assert cluster.heard.wait(60)
        time.sleep(0.2)
    assert len(cluster.said) == 1 and "room for 1 of 2 x (1 CPU, 1 GPU)" in cluster.said[0]


def test_it_is_told_again_after_a_while_and_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "REPEAT", 0.05)
    cluster = Cluster(monkeypatch, HEAD)
    with cluster.watch(Need(2, 1, 1)):
        while len(cluster.said) < 3:
            assert cluster.heard.wait(60)
        cluster.nodes = [HEAD, SAMPLER]
        while "room for 1 of 2" not in cluster.said[-1]:
            time.sleep(0.01)
    assert "room for 0 of 2" in cluster.said[0]


def test_room_that_others_hold_is_told_until_an_actor_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, SAMPLER)
    with cluster.watch(Need(1, 1, 1)):
        assert cluster.heard.wait(60)
    assert "other work holds it" in cluster.said[0]
    cluster.said.clear()
    with cluster.watch(Need(1, 1, 1), started=1):
        time.sleep(0.2)
    assert cluster.said == []


def test_on_a_private_ray_what_cannot_fit_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, SAMPLER)
    monkeypatch.delenv("RAY_ADDRESS")
    with pytest.raises(UserError, match=r"room for 0 of 1 x \(1 CPU, 2 GPU\).*change placement.sampling"):
        cluster.watch(Need(1, 1, 2)).__enter__()
    with pytest.raises(UserError, match="room for 1 of 3"):  # workers that begin together: two of three are none
        watched(Need(3, 1, 1), "placement.training", cluster.say).__enter__()
    with cluster.watch(Need(3, 1, 1)):  # fewer than asked can do the work
        assert cluster.heard.wait(60)
