"""Warnings about runs and data that look wrong without being an error. Functions of metrics rows and of data alone.

falling_chosen     over the last 20 steps, log pi/ref of the chosen branches is below -0.1 a token: DPO pushes both down
length_drift       greedy answers on held-out problems are 1.5 times longer or shorter than at the first evaluation
uneven_lengths     chosen branches are on average 1.5 times longer or shorter than rejected ones: length tells the label
repeated_prefixes  a pair shares its prefix with more than 16 pairs on average: few problems make the whole gradient
duplicate_rows     more than 1% of rows have exactly the tokens of another one: they count several times
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from app.training.dataset import Dataset, Ragged

Row = dict[str, Any]

WINDOW = 20  # steps
FALL = 0.1  # nats a token
DRIFT = 1.5  # ratio of lengths
SHARED = 16  # pairs a prefix
DUPLICATES = 0.01  # share of rows


def falling_chosen(rows: Sequence[Row]) -> list[int]:
    """Steps at which the chosen branches had become less likely than FALL allows."""
    out: list[int] = []
    for end in range(WINDOW, len(rows) + 1):
        window = rows[end - WINDOW : end]
        gain = sum(row["gain_chosen"] for row in window) / sum(row["length_chosen"] for row in window)
        if gain < -FALL:
            out.append(int(rows[end - 1]["step"]))
    return out


def length_drift(evaluations: Sequence[Row]) -> list[int]:
    """Steps of evaluations whose answers had drifted in length from those of the first."""
    if not evaluations:
        return []
    first = evaluations[0]["answer_tokens"]
    return [int(row["step"]) for row in evaluations[1:] if _apart(row["answer_tokens"], first)]


def _apart(one: float, other: float) -> bool:
    return max(one, other) > DRIFT * max(min(one, other), 1e-9)


def of_data(dataset: Dataset) -> dict[str, str]:
    """Alarms about a data set: name -> one sentence."""
    out = {}
    if len(dataset.branches) == 2:
        chosen, rejected = (float(branch.lengths.mean()) for branch in dataset.branches)
        if _apart(chosen, rejected):
            out["uneven_lengths"] = f"chosen branches have {chosen:.1f} tokens on average, rejected ones {rejected:.1f}"
        shared = sum(n * n for n in _repeats(dataset.prompts).values()) / len(dataset)
        if shared > SHARED:
            out["repeated_prefixes"] = f"a pair shares its prefix with {shared - 1:.0f} others on average"
    again = len(dataset) - len(_repeats(dataset.prompts, *dataset.branches))
    if again > DUPLICATES * len(dataset):
        out["duplicate_rows"] = f"{again:,} of {len(dataset):,} rows have exactly the tokens of another one"
    return out


def _repeats(*columns: Ragged) -> dict[tuple[bytes, ...], int]:
    """How often each combination of token lists occurs."""
    counts: dict[tuple[bytes, ...], int] = {}
    for index in range(len(columns[0].lengths)):
        key = tuple(column[index].tobytes() for column in columns)
        counts[key] = counts.get(key, 0) + 1
    return counts


def counts(rows: Sequence[Row], evaluations: Sequence[Row], data: Iterable[str]) -> dict[str, float]:
    """For the counts of a stage: steps (or evaluations) in alarm; 1 for an alarm about the data."""
    found = {f"alarm_{name}": 1.0 for name in data}
    found |= {"alarm_falling_chosen": float(len(falling_chosen(rows))) if _pairs(rows) else 0.0}
    found |= {"alarm_length_drift": float(len(length_drift(evaluations)))}
    return {name: value for name, value in found.items() if value}


def _pairs(rows: Sequence[Row]) -> bool:
    return bool(rows) and "gain_chosen" in rows[0]


class Watch:
    """Follows a run and says each alarm once."""

    def __init__(self) -> None:
        self.recent: list[Row] = []
        self.said: set[str] = set()

    def step(self, row: Row) -> str | None:
        """A new metrics row; the warning it gives rise to."""
        self.recent = [*self.recent, row][-WINDOW:]
        if not _pairs(self.recent) or not falling_chosen(self.recent) or "falling_chosen" in self.said:
            return None
        self.said.add("falling_chosen")
        return (
            f"warning: step {row['step']}: chosen branches have become less likely than at the start, by more than "
            f"{FALL:g} a token over {WINDOW} steps; raise rpo_alpha or beta, or lower learning_rate"
        )

    def evaluation(self, rows: Sequence[Row]) -> str | None:
        """All evaluations so far; the warning the last one gives rise to."""
        if not length_drift(rows) or "length_drift" in self.said:
            return None
        self.said.add("length_drift")
        first, last = rows[0]["answer_tokens"], rows[-1]["answer_tokens"]
        return f"warning: answers have {last:.0f} tokens on average, {first:.0f} at first: read some"
