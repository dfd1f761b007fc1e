"""What shards hold: a receipt for each from whoever wrote it, and their sum for a manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

BITS = 128  # of a digest
SUM = "sum:"  # tells a digest made like this from those of another form


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the footer of one shard says."""

    index: int
    rows: int
    counts: dict[str, float]
    digest: str  # hex, of its data and counts; empty where the shard is no file of ours


@dataclass(frozen=True)
class Written:
    """What the shards of a stage hold together."""

    shards: int
    rows: int
    counts: dict[str, float]  # summed
    digest: str  # SUM and hex, over the shards' numbers and digests


class Total:
    """A running sum of receipts, as large for a million as for one.

    It does not depend on their order, so that a resumed run says what an undisturbed one says: counts are added exactly
    and rounded once, digests are added modulo 2^128 (Bellare and Micciancio 1997, AdHash), which finds damage and
    mistakes; against forgery it would be too short.
    """

    def __init__(self, receipts: Iterable[Receipt] = ()) -> None:
        self.shards = self.rows = self._digest = 0
        self._counts: dict[str, Fraction] = {}
        for receipt in receipts:
            self.add(receipt)

    def add(self, receipt: Receipt) -> None:
        """Count in one more shard; each may come once."""
        self.shards += 1
        self.rows += receipt.rows
        told = hashlib.blake2b(f"{receipt.index} {receipt.digest}".encode(), digest_size=BITS // 8).digest()
        self._digest = (self._digest + int.from_bytes(told, "big")) % 2**BITS
        for key, value in receipt.counts.items():
            self._counts[key] = self._counts.get(key, Fraction(0)) + Fraction(value)

    def __add__(self, other: Self) -> Total:
        """The sum of two sums over different shards."""
        both = Total()
        both.shards, both.rows = self.shards + other.shards, self.rows + other.rows
        both._digest = (self._digest + other._digest) % 2**BITS
        for key in self._counts | other._counts:
            both._counts[key] = self._counts.get(key, Fraction(0)) + other._counts.get(key, Fraction(0))
        return both

    @property
    def written(self) -> Written:
        counts = {key: float(value) for key, value in self._counts.items()}
        return Written(self.shards, self.rows, counts, f"{SUM}{self._digest:0{BITS // 4}x}")
