"""The model card: where the weights came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.store import Output
from app.training.card import lineage


def finished(root: Path, stage: str, settings: dict[str, Any], inputs: dict[str, str]) -> None:
    Output(str(root), stage, f"key-{stage}").finish({"settings": settings, "inputs": inputs})


def test_lineage_names_sampler_verifier_and_step_values(tmp_path: Path) -> None:
    finished(tmp_path, "problems", {"seed": 0}, {})
    finished(tmp_path, "sampling", {"samples": 8}, {"problems": "key-problems", "training/sft": "key-sft"})
    finished(tmp_path, "verification", {"verifier": "verifier-1"}, {"sampling": "key-sampling"})
    finished(tmp_path, "credit", {"rollouts": 4, "steps": "a|b"}, {"sampling": "key-sampling"})
    inputs = {stage: f"key-{stage}" for stage in ("credit", "problems", "sampling", "verification")}
    dataset = Output(str(tmp_path), "datasets/step_dpo", "k")
    dataset.finish({"settings": {"per_problem": 4}, "inputs": {**inputs, "datasets/sft": "key-of-no-interest"}})
    assert lineage(dataset) == (
        ("Data set's settings", "per_problem 4"),
        ("Problems", "stage `problems`, key `key-problems`: seed 0"),
        ("Traces", "stage `sampling`, key `key-sampling`: samples 8; policy: `training/sft`, key `key-sft`"),
        ("Verdicts", 'stage `verification`, key `key-verification`: verifier "verifier-1"'),
        ("Step values", 'stage `credit`, key `key-credit`: rollouts 4, steps "a\\|b"; policy: the base model'),
    )


def test_a_data_set_of_teacher_traces_has_no_sampler(tmp_path: Path) -> None:
    finished(tmp_path, "problems", {"seed": 0}, {})
    dataset = Output(str(tmp_path), "datasets/sft", "k")
    dataset.finish({"settings": {}, "inputs": {"problems": "key-problems"}})
    assert [label for label, _ in lineage(dataset)] == ["Data set's settings", "Problems"]
