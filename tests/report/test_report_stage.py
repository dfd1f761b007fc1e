"""The stage writes both files, atomically, and publishes them at the run's root."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from app.recipe import Recipe
from app.report import stage
from app.report.stage import publish, run
from app.report.table import accuracy_table
from app.stage import StageContext
from app.store import Output

Make = Callable[..., StageContext]


def test_run_writes_results_and_page_at_the_root(shared_run: dict[str, Output], make_context: Make) -> None:
    context = make_context(shared_run)
    run(context)
    root = Path(context.output.root)
    found = json.loads((root / "results.json").read_text())
    assert set(found["methods"]) == {"base", "sft", "rft", "dpo", "step_dpo"}
    assert (root / "report" / "index.html").read_text().lstrip().startswith("<!doctype html>")
    rows = [line.split("  ")[0] for line in accuracy_table(found).split("\n")[2:]]
    assert rows == ["base", "SFT", "RFT", "DPO", "per-step DPO"]
    assert not [p for p in root.rglob(".*") if p.is_file()]


def test_run_marks_its_shard_done(shared_run: dict[str, Output], make_context: Make) -> None:
    context = make_context(shared_run)
    run(context)
    table = context.output.read()
    assert context.output.done_shards() == [0]
    assert table["method"].to_pylist() == ["base", "sft", "rft", "dpo", "step_dpo"]
    assert all(
        low <= a <= high
        for low, a, high in zip(*(table[c].to_pylist() for c in ("low", "accuracy", "high")), strict=True)
    )


def test_run_twice_gives_the_same_bytes(shared_run: dict[str, Output], make_context: Make) -> None:
    context = make_context(shared_run)
    files = [Path(context.output.root, name) for name in ("results.json", "report/index.html")]
    run(context)
    first = [file.read_bytes() for file in files]
    run(context)
    assert [file.read_bytes() for file in files] == first


def test_run_without_any_evaluation(shared_run: dict[str, Output], make_context: Make) -> None:
    context = make_context({"problems": shared_run["problems"], "synthesis": shared_run["synthesis"]})
    run(context)
    assert context.output.read().num_rows == 0
    assert "No method" in Path(context.output.root, "report", "index.html").read_text()


def test_publish_brings_back_the_report_of_a_reused_stage(
    shared_run: dict[str, Output], make_context: Make, build_recipe: Callable[..., Recipe]
) -> None:
    """Another version of the recipe has written over the root; the earlier one, reused, must not show its numbers."""
    first = make_context(shared_run)
    run(first)
    root = Path(first.output.root)
    kept = [(root / name).read_bytes() for name in ("results.json", "report/index.html")]
    fewer = {name: output for name, output in shared_run.items() if name != "evaluation/rft"}
    run(make_context(fewer, root=str(root)))
    assert "rft" not in json.loads((root / "results.json").read_text())["methods"]
    publish(first.output)
    assert [(root / name).read_bytes() for name in ("results.json", "report/index.html")] == kept


def test_a_failure_leaves_the_earlier_report(
    shared_run: dict[str, Output], make_context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_context(shared_run)
    run(context)
    root = Path(context.output.root)
    before = (root / "report" / "index.html").read_bytes()

    def broken(*_: object) -> str:
        raise RuntimeError("no page today")

    monkeypatch.setattr(stage, "page", broken)
    with pytest.raises(RuntimeError, match="no page today"):
        run(context)
    assert (root / "report" / "index.html").read_bytes() == before
