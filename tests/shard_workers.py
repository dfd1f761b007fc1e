"""Workers of the tests of shardmap, in a module that Ray's processes can import."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pyarrow as pa

from app.errors import UserError
from app.shard_stats import Receipt
from app.store import Output


class Worker:
    """Leaves a file for each shard it processed, and one for each time it was built."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.note("built")
        self.active = 0

    def note(self, name: str) -> None:
        with (self.folder / name).open("a") as file:
            file.write("x")

    def times(self, name: str) -> int:
        path = self.folder / name
        return path.stat().st_size if path.exists() else 0

    async def process(self, index: int) -> Receipt:
        self.active += 1
        most = self.active
        await asyncio.sleep(0.01)
        most = max(most, self.active)
        self.active -= 1
        self.note(f"shard-{index}")
        return Receipt(index, 2, {"rows": 2.0, "crowded": float(most > 1)}, "")


class Crowded(Worker):
    """Finishes nothing until a second actor is there."""

    async def process(self, index: int) -> Receipt:
        while self.times("built") < 2:
            await asyncio.sleep(0.05)
        return await super().process(index)


class Slow(Worker):
    """Takes a while for each shard."""

    async def process(self, index: int) -> Receipt:
        await asyncio.sleep(0.5)
        return await super().process(index)


class Mistaken(Worker):
    async def process(self, index: int) -> Receipt:
        raise UserError(f"row {index}: no answer; add one")


class Faulty(Worker):
    async def process(self, index: int) -> Receipt:
        return Receipt(index, 0, {"x": 1 / index}, "")


class FaultyBesideOthers(Worker):
    """Shard 0 fails once a second one is in flight, which takes for ever."""

    async def process(self, index: int) -> Receipt:
        self.active += 1
        while index or self.active < 2:
            await asyncio.sleep(0.05)
        raise ValueError("no such column")


class FaultyAmongMany(Worker):
    """Shard 5 fails; the others take a moment."""

    async def process(self, index: int) -> Receipt:
        if index == 5:
            raise ValueError("no such column")
        await asyncio.sleep(0.05)
        return await super().process(index)


class Dead(RuntimeError):
    restart_actor = True


class DiesOnce(Worker):
    """The engine behind it dies when shard 3 is first begun."""

    async def process(self, index: int) -> Receipt:
        if index == 3 and not self.times("died"):
            self.note("died")
            raise Dead("engine gone")
        return await super().process(index)


class KilledOnce(Worker):
    """Its process is lost without a word when shard 3 is first begun."""

    async def process(self, index: int) -> Receipt:
        if index == 3 and not self.times("died"):
            self.note("died")
            os.kill(os.getpid(), 9)
        return await super().process(index)


class AlwaysDies(Worker):
    async def process(self, index: int) -> Receipt:
        self.note("died")
        raise Dead("engine gone: out of memory")


class NeverStarts(Worker):
    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        raise RuntimeError("no kernel image")


class StartsAtTheSecondTry(Worker):
    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        if self.times("built") == 1:
            raise RuntimeError("device busy")


class Unservable(Worker):
    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        raise UserError("model.path: no weights there")


class Writer:
    """Writes shards whose counts do not add up exactly in floating point, and says so in its receipts."""

    def __init__(self, output: Output) -> None:
        self.output = output

    async def process(self, index: int) -> Receipt:
        table = pa.table({"id": [f"{index}-{row}" for row in range(index % 3)]})
        return self.output.write_shard(index, table, {"rows": float(index % 3), "seconds": 0.1 * index})


class WriterKilledOnce(Writer):
    """Its process is lost when shard 3 is written and not yet answered for."""

    async def process(self, index: int) -> Receipt:
        again = index in self.output.done_shards()
        receipt = await super().process(index)
        if index == 3 and not again:
            os.kill(os.getpid(), 9)
        return receipt
