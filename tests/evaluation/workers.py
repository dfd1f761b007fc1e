"""An evaluation worker without an engine or a model, in a module that Ray's processes can import."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

from app.evaluation.stage import EvaluationWorker
from app.sampling.engine import Completion, Engine, Request
from app.sampling.scripted import ScriptedEngine

CONTEXT = 40


def student(request: Request) -> Completion:
    """Greedy: right where the prompt's first token is even. Drawn: right, wrong or unreadable, by seed."""
    if request.temperature == 0:
        answer = "#### 1" if request.prompt_token_ids[0] % 2 == 0 else "#### 2"
    else:
        answer = random.Random(request.seed).choice(["#### 1", "#### 2", "#### 3", "who knows"])
    return Completion((5, 6, 7, 2), answer, "stop")


class ScriptedWorker(EvaluationWorker):
    """One token a character, counted from "a"."""

    def start_renderer(self) -> Any:
        return SimpleNamespace(prompt_ids=lambda text: [ord(c) - ord("a") for c in text])

    def start_engine(self) -> Engine:
        return ScriptedEngine(student, latency=lambda r: r.seed % 5 / 1000, slots=16, context_length=CONTEXT)
