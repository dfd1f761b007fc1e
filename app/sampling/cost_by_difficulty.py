"""What an accepted trace cost, by difficulty: tokens and engine time, from the files of sampling and verification."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow.compute as pc

from app.records import JUDGED
from app.store import Output

BANDS = ((0.0, "always solved"), (0.25, "up to 25%"), (0.5, "up to 50%"), (0.75, "up to 75%"), (1.0, "above 75%"))
NEVER = "never solved"


@dataclass
class Yield:
    """Problems of one band of fail rates, and what their traces cost."""

    problems: int = 0
    traces: int = 0
    accepted: int = 0  # correct traces
    tokens: int = 0
    engine_seconds: float = 0.0

    @property
    def tokens_each(self) -> float | None:
        """Tokens written for each accepted trace; None where none was."""
        return self.tokens / self.accepted if self.accepted else None

    @property
    def seconds_each(self) -> float | None:
        """Engine seconds for each accepted trace; None where none was."""
        return self.engine_seconds / self.accepted if self.accepted else None


def band(judged: int, accepted: int) -> str:
    """Name of the band of fail rates that a problem falls into."""
    if accepted == 0:
        return NEVER
    fails = 1 - accepted / judged
    return next(name for bound, name in BANDS if fails <= bound)


def yields(sampling: Output, verification: Output) -> dict[str, Yield]:
    """Yield by band, easiest first. One shard is in memory at a time; a problem's traces lie in one shard.

    A shard's engine seconds are divided among its traces by their tokens.
    """
    found = {name: Yield() for name in [*(name for _, name in BANDS), NEVER]}
    for index in verification.done_shards():
        traces = sampling.read_shard(index, ["id", "problem_id", "token_ids"])
        verdicts = verification.read_shard(index, ["trace_id", "outcome"])
        outcomes = dict(zip(*(verdicts[name].to_pylist() for name in ("trace_id", "outcome")), strict=True))
        seconds = sampling.shard_counts(index).get("engine_seconds", 0.0)
        lengths = pc.list_value_length(traces["token_ids"]).to_pylist()
        rows = zip(traces["problem_id"].to_pylist(), traces["id"].to_pylist(), lengths, strict=True)
        _add(found, rows, outcomes, seconds)
    return found


def _add(
    found: dict[str, Yield], traces: Iterable[tuple[str, str, int]], outcomes: dict[str, str], seconds: float
) -> None:
    problems: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for problem, trace, tokens in traces:
        problems[problem].append((outcomes[trace], tokens))
    total = sum(tokens for rows in problems.values() for _, tokens in rows)
    for rows in problems.values():
        accepted = sum(outcome == "correct" for outcome, _ in rows)
        judged = sum(outcome in JUDGED for outcome, _ in rows)
        tokens = sum(tokens for _, tokens in rows)
        cost = found[band(judged, accepted)]
        cost.problems += 1
        cost.traces += len(rows)
        cost.accepted += accepted
        cost.tokens += tokens
        cost.engine_seconds += seconds * tokens / total if total else 0.0
