"""Actors of Ray Data that begin with values, not with references into the object store.

Ray starts an actor again from what it began with. Ray Data puts that into the object store, and gives its actors a
handle beside it; where such an object is gone the new start fails, and Ray warns of it for each actor (ray#53727).
What our workers begin with is a few kilobytes of settings and addresses, so it can travel in the actor's own record.

This reaches into Ray Data 2.60, which pyproject.toml pins; tests/test_shardmap.py sees whether Ray still warns.
"""

from __future__ import annotations

from typing import Any

import ray.data._internal.execution.operators.actor_pool_map_operator as pools
from ray.data._internal.execution.node_trackers import get_or_create_actor_location_tracker


class _Tracker:
    """Ray Data's notes of where actors are, found by its name; made where the driver is."""

    def __init__(self) -> None:
        get_or_create_actor_location_tracker()

    @property
    def update_actor_location(self) -> Any:
        return get_or_create_actor_location_tracker().update_actor_location


def pass_values() -> None:
    """From now on."""
    operator = pools.ActorPoolMapOperator
    operator._map_transformer_ref = property(lambda self: self._map_transformer)
    operator._data_context_ref = property(lambda self: self.data_context)
    pools.get_or_create_actor_location_tracker = _Tracker
