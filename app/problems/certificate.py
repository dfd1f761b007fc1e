"""contamination.json: what new problems were compared with, what was dropped for it, and which set it is about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from app.errors import UserError, nearest
from app.problems.contamination import EvaluationIndex
from app.problems.overlap import statement_digest
from app.problems.rows import read_rows
from app.problems.settings import SynthesisSettings
from app.records import Problem, digest
from app.store import Output

FILE = "contamination.json"
QUOTED = 100  # hits that are quoted; all are counted
STATEMENT = ("question", "problem", "statement", "prompt")  # columns of a list's file, the first that is there


class Decontamination:
    """Judges problems one by one and keeps the certificate's account."""

    def __init__(self, settings: SynthesisSettings, evaluation: Iterable[Problem]) -> None:
        self.settings = settings
        self.index = EvaluationIndex(settings.decontamination, settings.near_duplicate)
        for problem in evaluation:
            self.index.add(problem.split, [problem.statement])
        for name, path in settings.decontamination.lists.items():
            self.index.add(name, statements_of(path))
        self.compared = 0
        self.found: dict[str, Counter[str]] = {name: Counter() for name in self.index.lists}  # by list: kinds
        self.quoted: list[dict[str, Any]] = []
        self.kept = SetDigest()

    def refusal(self, problem: Problem) -> str | None:
        """Why a problem is not kept, such as `contaminated: 8-gram of test`; None where it repeats none."""
        self.compared += 1
        hit = self.index.match(problem.statement)
        if hit is None:
            return None
        name, repeats = self.index.texts[hit.place]
        self.found[name][hit.kind] += 1
        if len(self.quoted) < QUOTED:
            quote = {"list": name, "kind": hit.kind, "coverage": round(hit.coverage, 3)}
            self.quoted.append(quote | {"problem": problem.statement, "repeats": repeats})
        return f"contaminated: {hit.kind} of {name}"

    def counted(self, problems: Iterable[Problem]) -> Iterator[Problem]:
        """The same problems, which are those that the certificate is about."""
        for problem in problems:
            self.kept.add(statement_digest(problem.statement))
            yield problem

    def certificate(self) -> dict[str, Any]:
        """What FILE holds, once all kept problems went through `counted`."""
        asked = self.settings.decontamination
        rules = {"near_duplicate": self.settings.near_duplicate, "mask_numbers": asked.mask_numbers}
        lists = {
            name: {"problems": len(found), "digest": digest(sorted(found)), "dropped": dict(self.found[name])}
            for name, found in self.index.lists.items()
        }
        return {
            "rules": rules | {"ngrams": {str(size): least for size, least in sorted(asked.ngrams.items())}},
            "lists": lists,
            "compared": self.compared,
            "dropped": sum(sum(kinds.values()) for kinds in self.found.values()),
            "kept": self.kept.count,
            "kept_digest": self.kept.hex,
            "hits": self.quoted,
        }


class SetDigest:
    """Digest of a set of statements that come in any order, one at a time: the sum of their own digests."""

    def __init__(self) -> None:
        self.count = self._sum = 0

    def add(self, statement: str) -> None:
        """Count in a statement, given its `statement_digest`."""
        self.count += 1
        self._sum = (self._sum + int(statement, 16)) % (1 << 128)

    @property
    def hex(self) -> str:
        return f"{self._sum:032x}"


def statements_of(path: str) -> Iterator[str]:
    """Statements of a list's file. Raises UserError, naming the row, where one has none."""
    for place, row in read_rows(path):
        column = next((name for name in STATEMENT if name in row), None)
        if column is None:
            raise UserError(f"{place}: no field {STATEMENT[0]!r}{nearest(STATEMENT[0], row)}; name it so")
        if not isinstance(row[column], str) or not row[column].strip():
            raise UserError(f"{place}: field {column!r} must be text, found {row[column]!r:.60}")
        yield row[column]


def require(output: Output, problems: Iterable[Problem], evaluation: Mapping[str, set[str]]) -> None:
    """Raise UserError where new problems have no certificate, or one of other problems.

    Args:
        output: of the stage that wrote them.
        evaluation: by split, the `statement_digest` of each problem that the certificate must speak of.
    """
    again = "remove that folder and run again, so that the problems are compared anew"
    try:
        found = output.read_json(FILE)
    except FileNotFoundError:
        raise UserError(
            f"{output.uri}: no {FILE}: nothing says that these problems repeat no evaluation problem; {again}"
        ) from None
    kept = SetDigest()
    for problem in problems:
        kept.add(statement_digest(problem.statement))
    if (kept.count, kept.hex) != (found["kept"], found["kept_digest"]):
        raise UserError(
            f"{output.uri}: {FILE} is about {found['kept']} other problems than the {kept.count} there; {again}"
        )
    for split, statements in evaluation.items():
        if found["lists"].get(split, {}).get("digest") != digest(sorted(statements)):
            raise UserError(f"{output.uri}: {FILE} is about other {split} problems than this run's; {again}")
