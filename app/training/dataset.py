"""A training data set in memory: flat arrays of token ids, the same on every worker.

Workers hold the whole set (4 bytes a token: a million traces of 500 tokens are 2 GB) and pick by index, because an
order that does not depend on the number of workers needs random access.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.errors import UserError
from app.store import Output
from app.training.pair_weights import pair_weights
from app.training.settings import PreferenceSettings, TrainSettings
from app.training.trees import Rows, grow, pack

SINGLE, PAIR = ("completion_token_ids",), ("chosen_token_ids", "rejected_token_ids")  # columns of branches
LABEL = "label"  # column of what a single completion is: right or wrong
COUNTS = (
    "correct_before",
    "judged_before",
    "correct_after",
    "judged_after",
    "exact_after",
)  # what is known of a pair's step


@dataclass(frozen=True)
class Ragged:
    """Lists of token ids as one array and where each begins."""

    values: np.ndarray  # (tokens,) int32
    offsets: np.ndarray  # (rows + 1,) int64

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> Ragged:
        lengths = pc.list_value_length(column).to_numpy()
        values = pc.list_flatten(column).to_numpy()
        return cls(np.ascontiguousarray(values, np.int32), np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))

    @classmethod
    def joined(cls, rows: Sequence[np.ndarray]) -> Ragged:
        """Rows one after the other."""
        return cls(np.concatenate(rows), np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64))

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)


@dataclass(frozen=True)
class Dataset:
    """Prompts with one completion (SFT, RFT, labelled ones) or several, chosen then rejected (the DPO methods), and a
    weight each.
    """

    ids: list[str]
    problems: np.ndarray  # (rows,) int64: equal numbers are equal problems
    prompts: Ragged
    branches: tuple[Ragged, ...]
    weights: np.ndarray  # (rows,) float64
    skipped: dict[str, int]  # reason -> rows left out
    labels: np.ndarray | None = None  # (rows,) bool: right or wrong, where the data set says so

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, prompt and all branches."""
        total = self.prompts.lengths.copy()
        for branch in self.branches:
            total += branch.lengths
        return total

    def rows(
        self, indices: Sequence[int] | np.ndarray, share: bool = True, budget: int | None = None, multiple: int = 1
    ) -> Rows:
        """Rows for the model; the sequences are numbered example by example, branch by branch.

        With `share` the sequences of a problem are one tree, without it each sequence is a tree of its own. `budget`
        and `multiple` as in app.training.trees.pack.
        """
        trees, numbers, branches = [], [], len(self.branches)
        for places in self._together(indices, share):
            prompts = [self.prompts[indices[place]] for place, _ in places]
            trees.append(grow(prompts, [self.branches[b][indices[place]] for place, b in places]))
            numbers.append(np.array([place * branches + b for place, b in places], np.int64))
        return pack(trees, numbers, len(indices) * branches, budget, multiple)

    def _together(self, indices: Sequence[int] | np.ndarray, share: bool) -> list[list[tuple[int, int]]]:
        """(place in the batch, branch) of the sequences of each tree; branches an example lacks are left out."""
        groups: dict[int, list[tuple[int, int]]] = {}
        for place, index in enumerate(indices):
            for b, branch in enumerate(self.branches):
                if branch.offsets[index] < branch.offsets[index + 1]:
                    key = int(self.problems[index]) if share else len(groups)
                    groups.setdefault(key, []).append((place, b))
        return list(groups.values())

    def completion_lengths(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Tokens of each completion, (len(indices), branches)."""
        return np.stack([branch.lengths[indices] for branch in self.branches], axis=1)


def load(output: Output, max_length: int, settings: TrainSettings | None = None) -> Dataset:
    """Read a data set stage, of single solutions or of pairs as its columns tell. Rows that cannot be used are left out
    and counted; UserError where none is left, or where the columns are missing that the settings' loss needs.
    """
    there = output.columns()
    preference = settings if isinstance(settings, PreferenceSettings) else None
    needed = PAIR[0] if preference else LABEL if settings and settings.labels else None
    if needed and needed not in there:
        kind = "pairs" if preference else "labelled examples"
        raise UserError(f"{output.uri}: a loss on {kind} needs a column {needed}; the method's data set has none")
    names = list(PAIR if PAIR[0] in there else SINGLE)
    by_counts = preference is not None and preference.weights == "certainty"
    labels = [LABEL] if needed == LABEL else []
    columns = ["id", "problem_id", "prompt_token_ids", *names, "weight", *labels, *(COUNTS if by_counts else ())]
    table = output.read(columns).combine_chunks()
    if by_counts:
        factor = pair_weights(*(table[name].to_numpy(zero_copy_only=False) for name in COUNTS))
        at = table.schema.get_field_index("weight")
        table = table.set_column(at, "weight", pa.array(table["weight"].to_numpy() * factor))
    if not table.num_rows:
        raise UserError(f"{output.uri}: the data set is empty, so there is nothing to learn from")
    faults = _faults(table, names, max_length)
    keep = ~np.logical_or.reduce(list(faults.values()))
    skipped, left = {}, np.ones(table.num_rows, bool)
    for reason, mask in faults.items():  # a row with several faults counts under the first
        skipped[reason] = int((mask & left).sum())
        left &= ~mask
    if not keep.any():
        told = ", ".join(f"{count} {reason}" for reason, count in skipped.items() if count)
        raise UserError(f"{output.uri}: training can use none of the {table.num_rows} rows ({told})")
    table = table.filter(pa.array(keep)).combine_chunks()
    dataset = Dataset(
        table["id"].to_pylist(),
        pc.dictionary_encode(table["problem_id"].combine_chunks()).indices.to_numpy().astype(np.int64),
        Ragged.of(table["prompt_token_ids"]),
        tuple(Ragged.of(table[name]) for name in names),
        table["weight"].to_numpy(),
        {reason: count for reason, count in skipped.items() if count},
        table[LABEL].to_numpy(zero_copy_only=False) if labels else None,
    )
    return listed(dataset) if preference is not None and preference.loss == "listwise" else dataset


def listed(pairs: Dataset) -> Dataset:
    """Pairs with the same prompt and chosen branch as one example with all their rejected branches.

    Branches an example does not have are empty. Its id is that of its first pair, its weight the mean of theirs.
    """
    groups: dict[tuple[bytes, bytes], list[int]] = {}
    for row in range(len(pairs)):
        key = pairs.prompts[row].tobytes(), pairs.branches[0][row].tobytes()
        groups.setdefault(key, []).append(row)
    members = [_distinct(rows, pairs.branches[1]) for rows in groups.values()]
    first = [rows[0] for rows in members]
    none = np.zeros(0, np.int32)
    rejected = [
        Ragged.joined([pairs.branches[1][rows[k]] if k < len(rows) else none for rows in members])
        for k in range(max(len(rows) for rows in members))
    ]
    return Dataset(
        [pairs.ids[row] for row in first],
        pairs.problems[first],
        Ragged.joined([pairs.prompts[row] for row in first]),
        (Ragged.joined([pairs.branches[0][row] for row in first]), *rejected),
        np.array([pairs.weights[rows].mean() for rows in groups.values()]),
        pairs.skipped,
    )


def unrelated(dataset: Dataset, max_length: int) -> Dataset:
    """Each prompt with the completion of another problem's row, each completion once, cut to `max_length`.

    What KTO's reference point is estimated from (2402.01306: mismatched outputs of the same batch). Here the partner is
    fixed, so that its reference log-probability is computed once. Rows in order of problems are shifted by the largest
    problem's count: only where that is more than half of all may a partner be of the same problem. Raises UserError
    where all rows are of one problem.
    """
    order = np.argsort(dataset.problems, kind="stable")
    most = int(np.bincount(dataset.problems).max())
    if most == len(order):
        raise UserError("all rows are of one problem: kto needs completions of others; use more problems, or step_bce")
    partner = np.empty_like(order)
    partner[order] = np.roll(order, -most)
    room = max_length - dataset.prompts.lengths
    cut = [dataset.branches[0][other][: room[row]] for row, other in enumerate(partner)]
    return replace(dataset, branches=(Ragged.joined(cut),), labels=None)


def _distinct(rows: list[int], branch: Ragged) -> list[int]:
    """The first of the rows with each branch."""
    seen: dict[bytes, int] = {}
    for row in rows:
        seen.setdefault(branch[row].tobytes(), row)
    return list(seen.values())


def _faults(table: pa.Table, names: list[str], max_length: int) -> dict[str, np.ndarray]:
    """Reason -> which rows have that fault."""
    prompt = Ragged.of(table["prompt_token_ids"])
    branches = [Ragged.of(table[name]) for name in names]
    longest = np.max([branch.lengths for branch in branches], axis=0)
    empty = (prompt.lengths == 0) | (np.min([branch.lengths for branch in branches], axis=0) == 0)
    faults = {"empty": empty, "too_long": prompt.lengths + longest > max_length}
    if len(branches) == 2:
        chosen, rejected = branches
        same = chosen.lengths == rejected.lengths
        for index in np.flatnonzero(same):
            same[index] = np.array_equal(chosen[index], rejected[index])
        faults["equal_branches"] = same
    faults["no_weight"] = ~(table["weight"].to_numpy() > 0)
    return faults


def check_vocabulary(dataset: Dataset, size: int, policy: str) -> None:
    """Raise UserError where a token id lies outside a model's or tokenizer's `size` tokens."""
    for field, ragged in (("prompt", dataset.prompts), *((f"branch {i}", b) for i, b in enumerate(dataset.branches))):
        worst = int(ragged.values.max(initial=0))
        if worst >= size or int(ragged.values.min(initial=0)) < 0:
            at = int(np.argmax((ragged.values >= size) | (ragged.values < 0)))
            row = int(np.searchsorted(ragged.offsets, at, side="right")) - 1
            raise UserError(
                f"data set row {dataset.ids[row]} ({field}) has token id {int(ragged.values[at])}, but {policy} "
                f"knows only {size} tokens: the data was tokenised for another model; build it again with this one"
            )
