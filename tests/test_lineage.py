"""Lineage: where data sets and weights came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.lineage import lineage
from app.store import Output


def finished(root: Path, stage: str, settings: dict[str, Any], **inputs: str) -> None:
    """A stage with its inputs: role -> folder."""
    keys = {role: f"key-{folder}" for role, folder in inputs.items()}
    Output(str(root), stage, f"key-{stage}").finish({"settings": settings, "inputs": keys, "folders": inputs})


def test_lineage_names_sampler_verifier_and_step_values(tmp_path: Path) -> None:
    finished(tmp_path, "problems", {"seed": 0})
    finished(tmp_path, "synthesis", {"count": 3}, problems="problems")
    finished(tmp_path, "sampling/sft", {"samples": 8}, problems="synthesis", policy="training/sft")
    finished(tmp_path, "verification/sft", {"verifier": "verifier-1"}, sampling="sampling/sft")
    finished(tmp_path, "credit/sft", {"rollouts": 4, "steps": "a|b"}, sampling="sampling/sft")
    inputs = {name: f"{name}/sft" for name in ("credit", "sampling", "verification")}
    finished(tmp_path, "datasets/x", {"per_problem": 4}, problems="synthesis", held_out="problems", **inputs)
    assert lineage(Output(str(tmp_path), "datasets/x", "key-datasets/x")) == (
        ("Data set's settings", "per_problem 4"),
        ("Synthetic problems", "stage `synthesis`, key `key-synthesis`: count 3"),
        (
            "Traces",
            "stage `sampling/sft`, key `key-sampling/sft`: samples 8; policy: `training/sft`, key `key-training/sft`",
        ),
        ("Verdicts", 'stage `verification/sft`, key `key-verification/sft`: verifier "verifier-1"'),
        (
            "Step values",
            'stage `credit/sft`, key `key-credit/sft`: rollouts 4, steps "a\\|b"; policy: a model of the recipe',
        ),
    )


def test_samples_of_two_policies_are_both_named(tmp_path: Path) -> None:
    for name in ("sft", "rft"):
        finished(tmp_path, f"sampling/{name}", {"samples": 8}, policy=f"training/{name}")
    finished(tmp_path, "datasets/x", {}, **{"sampling": "sampling/sft", "sampling.1": "sampling/rft"})
    told = [text for label, text in lineage(Output(str(tmp_path), "datasets/x", "key-datasets/x")) if label == "Traces"]
    assert [text.partition(",")[0] for text in told] == ["stage `sampling/sft`", "stage `sampling/rft`"]


def test_a_data_set_of_teacher_traces_has_no_sampler(tmp_path: Path) -> None:
    finished(tmp_path, "problems", {"seed": 0})
    finished(tmp_path, "datasets/sft", {}, problems="problems")
    rows = lineage(Output(str(tmp_path), "datasets/sft", "key-datasets/sft"))
    assert [label for label, _ in rows] == ["Data set's settings", "Problems"]
