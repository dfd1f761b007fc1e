"""What a check before the run found: one line each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """`FAIL` would stop the run, `warn` would not."""

    state: Literal["ok", "warn", "FAIL"]
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.state:<4}  {self.subject}: {self.text}"


def fine(subject: str, text: str) -> Finding:
    return Finding("ok", subject, text)


def warning(subject: str, text: str) -> Finding:
    return Finding("warn", subject, text)


def failed(subject: str, text: str) -> Finding:
    return Finding("FAIL", subject, text)
