"""Inputs made to break a grader: each answered, quickly, without touching a file or a process."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest

from app.records import OUTCOMES
from app.verification import equivalent, judge
from tests.verification.hostile import CORPUS, UNDEFINED

BUDGET = 20.0  # seconds of CPU for twelve judgements, on any machine; benchmarks.verification measures the 0.1 for one
REFERENCES = ("42", "x+1", "\\{1,2\\}", "(0,1)", "yes")


def test_the_corpus_is_large() -> None:
    assert len(CORPUS) >= 150


@pytest.mark.parametrize("answer", [pytest.param(c, id=f"{i}-{c[:24]!r}") for i, c in enumerate(CORPUS)])
def test_hostile(answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    start = time.process_time()
    for reference in (*REFERENCES, answer):
        assert equivalent(reference, answer) in (True, False)
    outcomes = [
        judge("41", t).outcome
        for t in (answer, f"The answer is {answer}", f"\\boxed{{{answer}}}", f"{answer}\n#### 40", f"**{answer}**")
    ]
    assert set(outcomes) <= set(OUTCOMES)
    assert "correct" not in outcomes
    assert time.process_time() - start < BUDGET
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", UNDEFINED)
def test_what_has_no_value_equals_nothing(text: str) -> None:
    assert not equivalent(text, text)
    assert not equivalent("1", text)
    assert not equivalent(text, "1")


def test_memory_stays_bounded() -> None:
    """The fast tiers: growth of this process over the whole corpus, most of it the cache of read answers."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for answer in CORPUS:
        judge("42", answer)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200 * 1024  # KiB
