"""Costs of accepted traces by difficulty, from the files of two stages."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest

from app.records import Trace, Verdict
from app.sampling.cost_by_difficulty import NEVER, band, yields
from app.store import Output


def rows(problem: str, outcomes: str, tokens: int) -> tuple[list[Trace], list[Verdict]]:
    """Traces of one problem, `tokens` long each; outcomes by letter: c, i or t(imeout)."""
    names = {"c": "correct", "i": "incorrect", "t": "timeout"}
    traces = [
        Trace(f"{problem}-{n}", problem, n, 0, "pol", [1], [7] * tokens, "", "stop") for n in range(len(outcomes))
    ]
    return traces, [Verdict(f"{problem}-{n}", names[c], None, "r", "t", 0.0) for n, c in enumerate(outcomes)]


def test_tokens_and_seconds_of_accepted_traces(tmp_path: Path) -> None:
    sampling, verification = Output(str(tmp_path), "sampling", "k"), Output(str(tmp_path), "verification", "k")
    shards = [[("easy", "cccc", 10), ("half", "cict", 20)], [("lost", "iii", 30), ("third", "cii", 10)]]
    for index, problems in enumerate(shards):
        traces, verdicts = zip(*(rows(*problem) for problem in problems), strict=True)
        sampling.write_shard(index, Trace.table(chain.from_iterable(traces)), {"engine_seconds": 12.0})
        verification.write_shard(index, Verdict.table(chain.from_iterable(verdicts)))
    found = yields(sampling, verification)
    assert {name: cost.problems for name, cost in found.items() if cost.problems} == {
        "always solved": 1,
        "up to 50%": 1,
        "up to 75%": 1,
        NEVER: 1,
    }
    assert (found["always solved"].tokens_each, found["always solved"].seconds_each) == (10, 12 * 40 / 120 / 4)
    assert found["up to 50%"].tokens_each == 40
    assert (found[NEVER].tokens, found[NEVER].tokens_each, found[NEVER].seconds_each) == (90, None, None)
    assert sum(cost.engine_seconds for cost in found.values()) == pytest.approx(24)


@pytest.mark.parametrize(
    ("judged", "accepted", "name"),
    [(4, 4, "always solved"), (4, 3, "up to 25%"), (100, 1, "above 75%"), (3, 0, NEVER), (0, 0, NEVER)],
)
def test_bands(judged: int, accepted: int, name: str) -> None:
    assert band(judged, accepted) == name


def test_the_hardest_solved_problem_has_a_band() -> None:
    assert band(100_000, 1) == "above 75%"
