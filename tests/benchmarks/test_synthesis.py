"""The benchmark of synthesis on few drafts, and the scripted writer's rates."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from app.problems.asking import Ask
from benchmarks import synthesis
from benchmarks.scripted_writer import FAULTS, ScriptedWriter, sound


def test_votes_find_what_single_solutions_get_wrong() -> None:
    rows = synthesis.votes("x", synthesis.world_drafts(150), {"8": {"solutions": 8, "agreement": 0.6}})
    assert [row.name.rpartition(": ")[2] for row in rows] == ["1", "8"] * len(synthesis.ERRORS)
    for single, voted in zip(rows[::2], rows[1::2], strict=True):
        assert single.value == single.peer_value and 20 < (single.value or 0) < 40 and "yield 100%" in single.note
        assert voted.value is not None and voted.value < 10 < (voted.peer_value or 0)
    assert rows[1].value == 0  # independent errors hardly ever agree


def test_every_fault_is_dropped_for_its_reason_and_nothing_else() -> None:
    rows = {row.name.partition(": ")[2]: row for row in synthesis.faults(4)}
    assert len(rows) == len(FAULTS) + 1
    assert rows.pop("nothing: a sound draft").value == 0
    assert {name for name, row in rows.items() if (row.value or 0) < 1} <= {"evaluation problem, renamed"}
    assert rows["copy of a seed"].note == "exact duplicate of a problem of the source"
    assert rows["evaluation problem, renamed"].note.startswith("contaminated: ")


@pytest.mark.parametrize(("alike", "expected"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_the_writer_errs_as_it_says(alike: float, expected: float) -> None:
    draft = sound("How many?", "12", 3, ["5", "12"])
    writer = ScriptedWriter([draft], alike)
    asks = [Ask(f"solve-0-{place}", "", place, 0.7, 100) for place in range(2000)]
    said = Counter(asyncio.run(writer.answer(ask)).text.rpartition(" ")[2] for ask in asks)
    wrong = 2000 - said["12"]
    assert said["12"] / 2000 == pytest.approx(draft.right, abs=0.05)
    assert draft.wrong[0] == "5" and "12" not in draft.wrong
    assert said["5"] / wrong == pytest.approx(expected, abs=0.1)


def test_both_indexes_are_measured() -> None:
    fast, memory, exact = synthesis.duplicates(1_000)
    assert (fast.value or 0) > 0 and fast.peer_value and (exact.value or 0) > 0
    assert 100 < (memory.value or 0) < 1000
