"""Steppers without a model, in a module that the engine's process can import."""

from __future__ import annotations

import os
import re
import time
from typing import Any

from app.errors import UserError


class Echo:
    """Writes `tokens` copies of the prompt's first token, one a step, at most `slots` requests at once.

    First tokens with a meaning of their own: REFUSED, BROKEN (the step raises), DEAD (the process ends), HANGING (the
    step never returns and never lets go of the interpreter).
    """

    REFUSED, BROKEN, DEAD, HANGING = 1, 2, 3, 4

    def __init__(self, slots: int = 4, fails: str = "") -> None:
        if fails == "user":
            raise UserError("no such thing")
        if fails == "fault":
            raise OSError("no room")
        if fails == "dies":
            os.write(2, b"KeyError: first\n(EngineCore pid=7) torch.OutOfMemoryError: all of it is gone\nand so on\n")
            os._exit(3)
        if fails == "silently":
            os._exit(3)
        self.slots, self.steps = slots, 0
        self.asked: dict[str, tuple[int, int]] = {}
        self.written: dict[str, list[int]] = {}

    def describe(self) -> dict[str, Any]:
        return {"slots": self.slots, "pid": os.getpid()}

    def add(self, name: str, prompt: list[int], parameters: dict[str, Any], adapter: str | None) -> None:
        if prompt[0] == self.REFUSED:
            raise ValueError("refused as asked")
        self.asked[name] = prompt[0], parameters["tokens"]
        self.written[name] = []

    def abort(self, name: str) -> None:
        self.asked.pop(name, None)
        self.written.pop(name, None)

    def busy(self) -> bool:
        return bool(self.asked)

    def step(self) -> list[tuple[str, Any]]:
        self.steps += 1
        time.sleep(0.001)
        finished = []
        for name, (token, tokens) in list(self.asked.items())[: self.slots]:
            if token == self.BROKEN:
                raise ArithmeticError("broken as asked")
            if token == self.DEAD:
                os._exit(9)
            if token == self.HANGING:
                re.match(r"(a+)+$", "a" * 60 + "b")
            self.written[name].append(token)
            if len(self.written[name]) == tokens:
                finished.append((name, self.written.pop(name)))
                del self.asked[name]
        return finished

    def names(self) -> list[str]:
        return sorted(self.asked)

    def count_steps(self) -> int:
        return self.steps

    def stumble(self) -> None:
        raise KeyError("stumbled as asked")
