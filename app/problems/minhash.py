"""Near duplicates by MinHash: little memory for a statement, the same few look-ups however many there are.

A statement is the set of its word n-grams. Of each of `bands` x `rows` hash functions the least value over the set is
taken; two sets of Jaccard similarity J agree in one of them with probability J (Broder 1997), and in all rows of at
least one band with 1 - (1 - J^rows)^bands: those count as near duplicates. With the 14 bands of 8 rows of datatrove
that is 0.5 at J = 0.69, 0.92 at 0.8 and 0.05 at 0.5. Bands are kept as 64-bit hashes and nothing else is, so that a
hit is not looked at again. datasketch's MinHashLSH took 5.2 kB a statement, this 0.2 to 0.4.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from app.problems.overlap import words
from app.problems.settings import MinHashSettings

Hashes = npt.NDArray[np.uint64]
FULL = 0.6  # share of a table's slots that are taken before it grows


class MinHashIndex:
    """Statements seen so far; `match` finds one that is the same or, with the probability above, nearly so."""

    def __init__(self, settings: MinHashSettings) -> None:
        self.settings = settings
        rng = np.random.default_rng(0)  # the same functions in every process
        functions = settings.bands * settings.rows
        self._factors, self._terms = _odd(rng, functions), _odd(rng, functions)
        self._weights, self._salts = _odd(rng, settings.rows), _odd(rng, settings.bands)
        self._places = _odd(rng, settings.words)  # of a word in its n-gram
        self._last: tuple[str | None, Hashes] = (None, np.zeros(0, np.uint64))
        self._table = HashTable()
        self._labels: list[str] = []

    def add(self, text: str, label: str) -> None:
        """Remember a statement under a label, of which there may be 255."""
        if label not in self._labels:
            self._labels.append(label)
        self._table.add(self._keys(text), self._labels.index(label) + 1)

    def match(self, text: str) -> tuple[str, str] | None:
        """("exact" or "near", label of what it repeats), or None."""
        found = self._table.get(self._keys(text))
        if not found.any():
            return None
        return "exact" if found[0] else "near", self._labels[int(found[np.flatnonzero(found)[0]]) - 1]

    @property
    def memory(self) -> int:
        """Bytes that it holds."""
        return self._table.keys.nbytes + self._table.values.nbytes

    def _keys(self, text: str) -> Hashes:
        """The whole statement's hash, then one of each band."""
        if self._last[0] != text:  # who asks for a match mostly adds the same text next
            self._last = text, self._keys_of(words(text))
        return self._last[1]

    def _keys_of(self, ws: list[str]) -> Hashes:
        hashed = np.array([_word_hash(word) for word in ws] or [0], np.uint64)
        size = min(self.settings.words, len(hashed))
        windows = np.lib.stride_tricks.sliding_window_view(hashed, size)
        grams = (windows * self._places[:size]).sum(axis=1)
        least = (grams[:, None] * self._factors + self._terms).min(axis=0)
        bands = (least.reshape(-1, self.settings.rows) * self._weights).sum(axis=1) + self._salts
        whole = np.array([_hash(" ".join(ws))], np.uint64)
        keys: Hashes = np.maximum(np.concatenate([whole, bands]), np.uint64(1))
        return keys


class HashTable:
    """64-bit keys, none of them 0, with small numbers above 0; open addressing, 9 bytes a slot."""

    def __init__(self, slots: int = 1 << 10) -> None:
        self.keys, self.values = np.zeros(slots, np.uint64), np.zeros(slots, np.uint8)
        self.taken = 0

    def get(self, keys: Hashes) -> npt.NDArray[np.uint8]:
        """The number of each key; 0 where it is not there."""
        found, places = np.zeros(len(keys), np.uint8), np.arange(len(keys))
        at = self._first(keys)
        while len(keys):
            there = self.keys[at]
            same = there == keys
            found[places[same]] = self.values[at[same]]
            going = ~same & (there != 0)
            keys, places, at = keys[going], places[going], self._next(at[going])
        return found

    def add(self, keys: Hashes, value: int | npt.NDArray[np.uint8]) -> None:
        """Put keys, all different, in with a number, or one each. One that is there keeps the number it has."""
        while self.taken + len(keys) > FULL * len(self.keys):
            self._grow()
        values, at = np.broadcast_to(np.asarray(value, np.uint8), keys.shape), self._first(keys)
        while len(keys):
            free = self.keys[at] == 0
            self.keys[at[free]] = keys[free]  # of several that want one slot the last has it
            placed = self.keys[at] == keys
            new = free & placed
            self.values[at[new]] = values[new]
            self.taken += int(new.sum())
            keys, values, at = keys[~placed], values[~placed], self._next(at[~placed])

    def _grow(self) -> None:
        keys, values = self.keys, self.values
        self.keys, self.values = np.zeros(2 * len(keys), np.uint64), np.zeros(2 * len(keys), np.uint8)
        self.taken = 0
        for start in range(0, len(keys), 1 << 20):  # piece by piece: what it takes beside the tables stays small
            some = keys[start : start + (1 << 20)]
            self.add(some[some != 0], values[start : start + (1 << 20)][some != 0])

    def _first(self, keys: Hashes) -> npt.NDArray[np.int64]:
        return (keys & np.uint64(len(self.keys) - 1)).astype(np.int64)

    def _next(self, at: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return (at + 1) & (len(self.keys) - 1)


def _odd(rng: np.random.Generator, count: int) -> Hashes:
    return rng.integers(0, 1 << 63, count, np.uint64) * np.uint64(2) + np.uint64(1)


@lru_cache(maxsize=1 << 16)
def _word_hash(word: str) -> int:
    return _hash(word)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
