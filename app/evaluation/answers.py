"""What one policy answered: outcomes by problem, read from an evaluation stage's traces and verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from app.evaluation.majority import Ballot, ballot, maj_at_k
from app.evaluation.metrics import accuracy, pass_at_k, tries


@dataclass
class Answers:
    """The greedy outcome of each problem, and the drawn samples' outcomes and extracted answers, by problem id."""

    greedy: dict[str, str] = field(default_factory=dict)
    drawn: dict[str, list[tuple[str, str | None]]] = field(default_factory=dict)

    def add(self, traces: pa.Table, verdicts: pa.Table) -> None:
        """Add one shard: traces (id, problem_id, sample) and verdicts (trace_id, outcome, extracted)."""
        judged = {row["trace_id"]: (row["outcome"], row["extracted"]) for row in verdicts.to_pylist()}
        for row in traces.to_pylist():
            if row["id"] not in judged:
                raise ValueError(f"trace {row['id']} of problem {row['problem_id']} has no verdict")
            outcome, extracted = judged[row["id"]]
            if row["sample"] == 0:
                self.greedy[row["problem_id"]] = outcome
            else:
                self.drawn.setdefault(row["problem_id"], []).append((outcome, extracted))


def read(shards: Iterable[tuple[pa.Table, pa.Table]]) -> Answers:
    """Answers of all shards, each a pair of traces and verdicts."""
    answers = Answers()
    for traces, verdicts in shards:
        answers.add(traces, verdicts)
    return answers


def summary(answers: Answers, same: Callable[[str, str], bool]) -> dict[str, Any]:
    """Accuracy, pass@k and maj@k as plain values; `same` says whether two wrong answers are the same answer."""
    greedy = accuracy(list(answers.greedy.values()))
    samples = [[outcome for outcome, _ in drawn] for drawn in answers.drawn.values()]
    ballots = ballots_of(answers, same)
    ks = tries(max(map(len, samples), default=0))
    return {
        "accuracy": greedy.estimate.json()
        | {"correct": greedy.correct, "unparsed": greedy.unparsed, "undecided": greedy.undecided},
        "pass_at_k": {str(k): pass_at_k(samples, k).json() for k in ks},
        "maj_at_k": {str(k): maj_at_k(ballots, k).json() for k in ks},
        "drawn_undecided": sum(accuracy(outcomes).undecided for outcomes in samples),
    }


def ballots_of(answers: Answers, same: Callable[[str, str], bool]) -> list[Ballot]:
    """The votes of every problem's drawn samples."""
    return [ballot([o for o, _ in drawn], [a for _, a in drawn], same) for drawn in answers.drawn.values()]
