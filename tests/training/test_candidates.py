"""Which candidate becomes the model, and when training is over."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from app.training.candidates import Candidates, Row, choose

ACCURACIES = st.lists(st.integers(0, 5).map(lambda n: n / 5), max_size=12)


def rows_of(accuracies: list[float]) -> list[Row]:
    return [{"step": 10 * (i + 1), "accuracy": value} for i, value in enumerate(accuracies)]


@given(ACCURACIES, st.integers(1, 4))
def test_the_best_is_kept_and_the_first_of_equals(accuracies: list[float], patience: int) -> None:
    rows = rows_of(accuracies)
    best, over = choose(rows, patience)
    seen = [r for r in rows if over is None or r["step"] <= over]
    if not rows:
        assert (best, over) == (None, None)
        return
    assert best is not None
    assert best["accuracy"] == max(r["accuracy"] for r in seen)
    assert best["step"] == min(r["step"] for r in seen if r["accuracy"] == best["accuracy"])
    if over is None:
        assert len([r for r in rows if r["step"] > best["step"]]) < patience
    else:
        assert over == best["step"] + 10 * patience


@given(ACCURACIES, st.integers(1, 4))
def test_what_came_after_the_end_decides_nothing(accuracies: list[float], patience: int) -> None:
    """A slow evaluator lets training run on; the outcome is that of a fast one."""
    rows = rows_of(accuracies)
    best, over = choose(rows, patience)
    if over is not None:
        assert choose([r for r in rows if r["step"] <= over], patience) == (best, over)


def test_without_patience_the_last_one_is_the_model() -> None:
    assert choose(rows_of([0.9, 0.1]), None) == ({"step": 20, "accuracy": 0.1}, None)


def offer(candidates: Candidates, *steps: int) -> None:
    for step in steps:
        candidates.path(step).mkdir(parents=True)
        (candidates.path(step) / "weights").write_text(str(step))


def test_candidates_go_when_they_can_no_longer_win(tmp_path: Path) -> None:
    candidates = Candidates(tmp_path, patience=2)
    offer(candidates, 10, 20, 30, 40, 50)
    (candidates.folder / ".step-00000060").mkdir()  # half-written
    for step, accuracy in ((10, 0.1), (20, 0.5), (30, 0.5)):
        assert candidates.next() == step
        candidates.add({"step": step, "accuracy": accuracy})
        assert not candidates.stop.exists()
    assert sorted(p.name for p in candidates.folder.glob("step-*")) == [f"step-000000{n}" for n in (20, 40, 50)]
    candidates.add({"step": 40, "accuracy": 0.2})
    assert candidates.stop.exists()
    candidates.add({"step": 50, "accuracy": 1.0})  # was under way when training ended
    assert [r["step"] for r in candidates.rows()] == [10, 20, 30, 40]
    assert candidates.promote(tmp_path / "model")["step"] == 20
    assert (tmp_path / "model" / "weights").read_text() == "20"
    assert not candidates.folder.exists() and not candidates.stop.exists()
    assert candidates.promote(tmp_path / "model")["step"] == 20  # a stopped run comes here again
    assert (tmp_path / "model" / "weights").read_text() == "20"


def test_what_was_offered_or_evaluated_is_not_written_again(tmp_path: Path) -> None:
    candidates = Candidates(tmp_path, patience=3)
    assert candidates.wanted(10)
    offer(candidates, 10, 20)
    assert not candidates.wanted(10)
    candidates.add({"step": 10, "accuracy": 0.5})
    candidates.add({"step": 20, "accuracy": 0.4})
    assert not candidates.path(20).exists() and not candidates.wanted(20) and candidates.wanted(30)
    assert candidates.next() is None
