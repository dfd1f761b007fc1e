"""Which engine serves a policy: `backend` of a placement names the function that makes it, one file a backend.

# my_engine.py, beside the job or in its working directory; `backend: "my_engine:create"` in the placement
def create(policy: Policy, place: EnginePlacement, revision: str | None, trust_remote_code: bool) -> Engine: ...
"""

from __future__ import annotations

from importlib import import_module

from app.errors import UserError
from app.policy import Policy
from app.sampling.engine import Engine
from app.sampling.settings import EnginePlacement

BACKENDS = {"vllm": "app.sampling.vllm:create", "sglang": "app.sampling.sglang:create"}


def create(policy: Policy, place: EnginePlacement, revision: str | None, trust_remote_code: bool) -> Engine:
    """The engine that a placement asks for, with a policy's weights (a node's own copy: `Policy.here`).

    Raises UserError where there is no such backend, or it cannot serve the policy as the placement asks.
    """
    module, _, name = BACKENDS.get(place.backend, place.backend).partition(":")
    try:
        make = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"backend {place.backend} of the placement cannot be imported: {error}") from error
    made = make(policy, place, revision, trust_remote_code)
    if not isinstance(made, Engine):
        raise UserError(f"backend {place.backend} must return an Engine (app/sampling/engine.py), not {made!r}")
    return made
