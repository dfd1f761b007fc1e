"""A run whose DPO exports its adapter alone: evaluated during training and after it on engines of the SFT model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.records import Trace
from app.store import Output
from tests.runs import TINY, recipe_file, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DPO = {
    "method": "dpo",
    "init": "sft",
    "steps": 2,
    "batch": 8,
    "micro_batch": 8,
    "learning_rate": 3e-2,  # so large that the answers change
    "warmup": 0,
    "precision": "fp32",
    "lora": {"r": 8, "alpha": 16, "merge": False},
    "evaluate_every": 1,
    "evaluate_problems": 2,
}


def output_of(runs: Path, stage: str) -> Output:
    """The one output of a stage."""
    (folder,) = (runs / "tiny" / stage).iterdir()
    return Output(str(runs / "tiny"), stage, folder.name)


def shortfall(model: Any, trace: Trace) -> float:
    """By how much the tokens of a greedy answer miss this model's likeliest ones, at the worst place."""
    import torch

    prompt, answer = list(trace.prompt_token_ids), list(trace.token_ids)
    with torch.no_grad():
        scores = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1].float()
    chosen = scores.gather(1, torch.tensor(answer)[:, None])[:, 0]
    return float((scores.max(dim=1).values - chosen).max())


def test_the_adapter_alone_is_what_is_evaluated(tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    recipe = {key: value for key, value in TINY.items() if key != "credit"}
    recipe["runs"] = {"sft": TINY["runs"]["sft"], "dpo": DPO}  # type: ignore[index]
    out = run(recipe_file(tmp_path, recipe), tmp_path / "runs")
    sft, dpo = (output_of(tmp_path / "runs", f"training/{method}") for method in ("sft", "dpo"))
    folder = dpo.local("model")
    assert {path.name for path in folder.glob("*.safetensors")} == {"adapter_model.safetensors"}
    assert json.loads((folder / "base.json").read_text()) == {"stage": "training/sft", "key": sft.key}
    assert "step 1: " in out and "step 2: " in out  # both candidates were evaluated
    base = AutoModelForCausalLM.from_pretrained(sft.local("model"), dtype=torch.float32)
    answers = Trace.from_table(output_of(tmp_path / "runs", "evaluation/dpo").read())
    assert len(answers) == 12
    before = [shortfall(base, trace) for trace in answers]
    tuned = PeftModel.from_pretrained(base, str(folder))
    after = [shortfall(tuned, trace) for trace in answers]
    assert max(after) < 0.25 < min(before)
