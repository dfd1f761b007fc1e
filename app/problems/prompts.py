"""The texts a writer is asked with: one file each in prompts/, with fields in braces."""

from __future__ import annotations

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "prompts"


@cache
def prompt(name: str) -> str:
    """The text of prompts/NAME.txt, or of a file of a plugin given by its path."""
    path = Path(name) if name.endswith(".txt") else FOLDER / f"{name}.txt"
    return path.read_text(encoding="utf-8").rstrip("\n")


@cache
def lines(name: str) -> tuple[str, ...]:
    """A list kept as a file, one entry a line."""
    return tuple(line for line in prompt(name).splitlines() if line)


def filled(text: str, fields: dict[str, str]) -> str:
    """A text with its fields put in, each once, so that braces in statements stay what they are."""
    parts = [text]
    for name, value in fields.items():
        parts = [piece for part in parts for piece in _split(part, f"{{{name}}}", value)]
    return "".join(parts)


class _Value(str):
    """A piece that came out of a field: nothing is filled in there."""


def _split(part: str, mark: str, value: str) -> list[str]:
    if isinstance(part, _Value) or mark not in part:
        return [part]
    pieces: list[str] = []
    for piece in part.split(mark):
        pieces += [piece, _Value(value)]
    return pieces[:-1]
