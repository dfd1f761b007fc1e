"""A credit worker whose engine is a scripted student, in a module that Ray's processes can import."""

from __future__ import annotations

import asyncio
import json
import os
import random
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from app.credit.stage import CreditWorker
from app.policy import WORLD_MODEL
from app.rendering import Renderer
from app.sampling.engine import Completion, Engine, Request
from app.shard_stats import Receipt
from app.store import Output
from tests.credit import student as world

KILLS, LIVES, CROWD = "kills.json", "lives", "crowd"  # in the run's folder


class WorldRenderer(Renderer):
    """The world's renderer without transformers, whose import takes three quarters of an actor's start here."""

    def __init__(self) -> None:
        self.settings = world.recipe().rendering
        self.tokens = Tokenizer.from_file(str(WORLD_MODEL / "tokenizer.json"))

    @property
    def end_id(self) -> int:
        return self.tokens.token_to_id("<eos>")

    def prompt_ids(self, statement: str) -> list[int]:
        return self.tokens.encode(self.prompt(statement)).ids

    def completion_ids(self, text: str) -> list[int]:
        return [*self.tokens.encode(text, add_special_tokens=False).ids, self.end_id]

    def decode(self, token_ids: list[int]) -> str:
        return self.tokens.decode(token_ids)


class Late(world.Student):
    """Answers in an order of its own, that of another process being another one."""

    rng = random.Random()
    asked = 0
    dies_at: int | None = None

    async def generate(self, request: Request) -> Completion:
        self.asked += 1
        if self.asked == self.dies_at:
            os.kill(os.getpid(), 9)
        await asyncio.sleep(self.rng.random() / 200)
        return await super().generate(request)


class Doomed(Output):
    """An output whose process is killed right after it wrote a table of some kind."""

    def write_shard(self, index: int, table: Any, counts: Any = None, kind: str = "part") -> None:
        super().write_shard(index, table, counts, kind)
        if kind == self.key.partition("!")[2]:
            os.kill(os.getpid(), 9)

    @property
    def uri(self) -> str:
        return super().uri.partition("!")[0]


class StudentWorker(CreditWorker):
    """kills.json tells how its first lives end: at a request's number, or after a table of some kind was written."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        folder = Path(self.output.root)
        with (folder / LIVES).open("a") as lives:
            lives.write("x")
        kills = json.loads((folder / KILLS).read_text()) if (folder / KILLS).exists() else []
        life = (folder / LIVES).stat().st_size - 1
        end = kills[life] if life < len(kills) else None
        if isinstance(end, int):
            self.engine.dies_at = end
        elif end:
            self.output = Doomed(self.output.root, self.output.stage, f"{self.output.key}!{end}")

    async def process(self, index: int) -> Receipt:
        """Wait until as many actors as `crowd` says are there: a small run would be over before a pool has grown."""
        folder = Path(self.output.root)
        while (folder / LIVES).stat().st_size < int((folder / CROWD).read_text()):
            await asyncio.sleep(0.05)
        return await super().process(index)

    def start_renderer(self) -> Renderer:
        return WorldRenderer()

    def start_engine(self) -> Engine:
        return Late(world.problems(), self.renderer)
