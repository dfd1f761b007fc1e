"""Sequence parallelism: workers that share the tokens of a micro-batch learn what one worker would."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from app.errors import UserError
from app.training import deepspeed_backend, forward
from app.training.forward import batch, check_tree, tensors
from app.training.loop import Trainer
from app.training.metrics import read
from app.training.sequence import Team
from app.training.settings import TrainPlacement
from tests.training.conftest import context_of, save_tiny_model
from tests.training.ranks import spawn
from tests.training.test_loop import ROUNDING, close, trained, weights

CASES: dict[str, dict[str, Any]] = {
    "step-dpo": {"method": "step_dpo", "rpo_alpha": 0.5, "group": "problem"},
    "zero-3": {"method": "sft", "micro_batch": 3, "placement": {"zero_stage": 3}},
    "sft": {"method": "sft", "micro_batch": 3},
    "checkpointing": {"method": "step_dpo", "gradient_checkpointing": True},
    "zero-2": {"method": "step_dpo", "placement": {"zero_stage": 2}},
    "live": {"method": "dpo", "lora": {"r": 4, "alpha": 8}, "reference": "live"},
}
QUICK = ("step-dpo", "zero-3")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twice as many query heads as key heads."""
    return save_tiny_model(tmp_path_factory.mktemp("heads") / "model", num_attention_heads=4)


def trainer(model: Path, root: Path, case: str, workers: int = 1, share: int = 1) -> Trainer:
    """The trainer of one case, on a rank of a group of `workers`."""
    from app.training.dataset import load
    from app.training.launch import make_job

    how = dict(CASES[case])
    placement = {"workers": workers, "sequence_parallel": share, **how.pop("placement", {})}
    job = make_job(context_of(model, how.pop("method"), root / case, epochs=2, placement=placement, **how))
    job.output.local().mkdir(parents=True, exist_ok=True)
    return Trainer(job, load(job.dataset, job.settings.max_length, job.settings), torch.device("cpu"))


def as_if_large(patch: pytest.MonkeyPatch) -> None:
    """A few logits at a time, and under ZeRO 3 no weight small enough to stay on every worker."""
    inner = deepspeed_backend.deepspeed_config

    def config(*arguments: Any) -> dict[str, Any]:
        out = inner(*arguments)
        out["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        return out

    patch.setattr(deepspeed_backend, "deepspeed_config", config)
    patch.setattr(forward, "LOGITS", 64 * 7)


def train_all(model: Path, root: Path, cases: tuple[str, ...], workers: int) -> None:
    """On every rank: the runs, and what can only be looked at there."""
    with pytest.MonkeyPatch.context() as patch:
        as_if_large(patch)
        for case in cases:
            one = trainer(model, root, case, workers, share=2)
            one.train()
    own_share(one)
    flex(one)


def own_share(one: Trainer) -> None:
    """A worker's layers see half of the tokens."""
    seen: list[int] = []
    module = one.engine.module
    rows = batch(module, one.dataset, np.arange(8))
    layers = module.model.base_model.layers
    hook = layers[0].mlp.down_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    with torch.no_grad():
        one.engine(**tensors(rows, one.device))
    hook.remove()
    assert seen == [rows.computed // 2]


def flex(one: Trainer) -> None:
    """FlexAttention between the exchanges, not compiled: values only."""
    one.engine.module.attention = "flex"
    with torch.compiler.set_stance("force_eager"):
        assert check_tree(one.engine.module, one.device) == ""


def compare(model: Path, tmp_path: Path, cases: tuple[str, ...], workers: int) -> None:
    spawn(workers, train_all, tmp_path / "store", model, tmp_path / "shared", cases, workers)
    for case in cases:
        alone = trainer(model, tmp_path / "alone", case)
        _, wanted = trained(alone)
        folder = tmp_path / "shared" / alone.job.output.local().relative_to(tmp_path / "alone")
        ours, theirs = read(folder / "metrics.jsonl"), read(alone.job.metrics)
        assert len(ours) == len(theirs) == 6
        for a, b in zip(ours, theirs, strict=True):
            assert (a["loss"], a["grad_norm"]) == pytest.approx((b["loss"], b["grad_norm"]), abs=1e-5, rel=1e-5), case
            assert [a[k] for k in ("tokens", "examples", "useful_tokens")] == [
                b[k] for k in ("tokens", "examples", "useful_tokens")
            ]
            assert b["computed_tokens"] <= a["computed_tokens"] <= b["computed_tokens"] + 8  # padding to a multiple
        assert close(weights(folder / "model"), wanted, ROUNDING), case


def test_two_workers_that_share_sequences_learn_what_one_does(one_rank: None, model: Path, tmp_path: Path) -> None:
    compare(model, tmp_path, QUICK, 2)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_teams_of_two_workers_learn_what_one_does(one_rank: None, model: Path, tmp_path: Path) -> None:
    compare(model, tmp_path, tuple(CASES), 4)


def refused(model: Path, root: Path) -> None:
    with pytest.raises(UserError, match=r"sequence_parallel: not with this model: it looks back 32 tokens only"):
        trainer(model, root, "sft", 2, share=2)


@pytest.mark.slow
def test_a_model_that_cannot_branch_is_refused(tmp_path: Path) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    folder = save_tiny_model(tmp_path / "model")
    config = MistralConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        sliding_window=32,
    )
    MistralForCausalLM(config).save_pretrained(folder)
    spawn(2, refused, tmp_path / "store", folder, tmp_path)


def test_what_cannot_be_shared_out_is_one_clear_error() -> None:
    with pytest.raises(UserError, match=r"sequence_parallel: 4 workers cannot share the model's 2 num_key_value_heads"):
        Team(size=4).check(SimpleNamespace(num_attention_heads=8, num_key_value_heads=2))
    with pytest.raises(ValidationError, match="sequence_parallel: 6 workers are no multiple of 4"):
        TrainPlacement(workers=6, sequence_parallel=4)
