"""A sampling worker without an engine or a model, in a module that Ray's processes can import."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

from app.sampling.engine import Completion, Engine, Request
from app.sampling.scripted import ScriptedEngine
from app.sampling.stage import SamplingWorker


def half_right(request: Request) -> Completion:
    """The answer 1, which is right, or 2; the first prompt token in twenty is the chance of the former."""
    rng = random.Random(request.seed)
    right = rng.random() < request.prompt_token_ids[0] / 20
    tokens = tuple(rng.randrange(100) for _ in range(rng.randrange(3, 12)))
    return Completion(tokens, f"#### {1 if right else 2}", "stop")


class ScriptedWorker(SamplingWorker):
    """One token a character; a statement's first character decides how hard it is."""

    def start_renderer(self) -> Any:
        return SimpleNamespace(
            prompt_ids=lambda text: [ord(c) - ord("a") for c in text],
            decode=lambda ids: " ".join(map(str, ids)),
        )

    def start_engine(self) -> Engine:
        return ScriptedEngine(half_right, latency=lambda r: r.seed % 7 / 1000, slots=16, context_length=40)
