"""The ledger of a study: a small JSON file for every finished point, which can be committed and shared.

    FOLDER/points/KEY.json         one trained policy: how it was made, what it answered, what that took
    FOLDER/problems/DIGEST.json    ids of a test's problems, once for all points that were asked them

KEY is that of the point's evaluation stage, so an entry counts as long as nothing that decides its result has changed.
A study goes on from its ledger wherever that is, without the folders of its runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pyarrow import fs as pafs

from app.errors import UserError
from app.evaluation.answers import Answers
from app.records import JUDGED, digest
from app.store import Output

FORMAT = 1  # of an entry; bumped when a field changes its meaning
UNDECIDED = "-"


@dataclass(frozen=True)
class Entry:
    """What is kept of a point."""

    key: str
    run: str  # its name in the study that made it
    method: str
    seed: int
    problems: str  # digest of the ids of the test's problems
    greedy: str  # by problem, in the order of ids: 1 right, 0 wrong, - undecided
    draws: int  # further answers to each problem
    drawn: str  # of those, how many are right, by problem; - where one of them is undecided; empty without draws
    settings: Mapping[str, Any]  # of its data set, its training and its evaluation
    stages: Mapping[str, Mapping[str, Any]]  # all that it was made by: key, seconds, rows, tokens, steps
    versions: Mapping[str, str]  # of the libraries that decide results
    format: int = FORMAT

    @property
    def errors(self) -> list[float | None]:
        """Errors of the greedy answers, in the order of the problems; None where undecided."""
        return [None if mark == UNDECIDED else 1.0 - int(mark) for mark in self.greedy]

    @property
    def drawn_errors(self) -> list[float | None]:
        """Share of each problem's draws that are wrong; None where one of them is undecided."""
        return [None if mark == UNDECIDED else 1 - int(mark) / self.draws for mark in self.drawn.split()]


def marks(answers: Answers) -> tuple[list[str], str, str, int]:
    """Ids of the problems in order, the fields `greedy` and `drawn`, and the draws a problem."""
    ids = sorted(answers.greedy)
    greedy = "".join(_mark([answers.greedy[problem]]) for problem in ids)
    draws = max(map(len, answers.drawn.values()), default=0)
    drawn = [_mark([outcome for outcome, _ in answers.drawn.get(problem, [])]) for problem in ids] if draws else []
    return ids, greedy, " ".join(drawn), draws


def _mark(outcomes: Sequence[str]) -> str:
    decided = all(outcome in JUDGED for outcome in outcomes)
    return str(sum(outcome == "correct" for outcome in outcomes)) if decided else UNDECIDED


class Ledger:
    """The finished points below a study's folder."""

    def __init__(self, folder: str) -> None:
        self.points, self.problems = Output(folder, "points", ""), Output(folder, "problems", "")

    def keys(self) -> set[str]:
        """Keys of the points that are there."""
        fs, folder = self.points.open()
        infos = fs.get_file_info(pafs.FileSelector(folder.rstrip("/"), allow_not_found=True))
        return {info.base_name.removesuffix(".json") for info in infos if info.base_name.endswith(".json")}

    def add(self, entry: Entry, ids: Sequence[str]) -> None:
        """Keep a point; its problems first, so that an entry that is there can be read."""
        self.problems.write_json(f"{entry.problems}.json", list(ids))
        self.points.write_json(f"{entry.key}.json", asdict(entry))

    def entry(self, key: str) -> Entry:
        """A point. Raises UserError where its file does not hold one."""
        name = f"{key}.json"
        told = f"{self.points.uri}{name}: no entry of a ledger"
        try:
            body = self.points.read_json(name)
            entry = Entry(**body)
        except (json.JSONDecodeError, TypeError) as error:
            raise UserError(f"{told} ({error}); delete the file, and the point is made again") from None
        if entry.format != FORMAT or entry.key != key or len(self.ids(entry)) != len(entry.greedy):
            raise UserError(f"{told} of format {FORMAT}, key {key}; delete the file, and the point is made again")
        return entry

    def ids(self, entry: Entry) -> list[str]:
        """Ids of the problems that a point was asked. Raises UserError where they are not there."""
        name = f"{entry.problems}.json"
        try:
            ids: list[str] = self.problems.read_json(name)
        except (FileNotFoundError, json.JSONDecodeError):
            ids = []
        if digest(ids, size=8) != entry.problems:
            raise UserError(
                f"{self.problems.uri}{name}: not the ids of the problems that point {entry.key} was asked; "
                "bring the file back, or delete the points that name it: they are made again"
            )
        return ids
