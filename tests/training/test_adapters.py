"""Adapters trained by the real loop: what changes, what is exported, what resumes, what a live reference is."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from app.errors import UserError
from app.policy import Policy, trained_policy
from app.training import adapters, attention
from app.training.dataset import load
from app.training.forward import TokenLogProbs
from app.training.loop import Trainer
from app.training.metrics import read
from app.training.settings import LoraSettings, PreferenceSettings
from tests.training.conftest import rows_of, write_rows
from tests.training.ranks import spawn
from tests.training.test_forward import one_by_one, result, same_gradients
from tests.training.test_loop import close, kill_at, trained, weights

MakeTrainer = Callable[..., Trainer]
LORA: dict[str, Any] = {"r": 4, "alpha": 8}

attention.register()


def adapted(folder: Path, **values: Any) -> torch.nn.Module:
    """The tiny model with adapters that already do something."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    adapters.add(model, LoraSettings.model_validate({**LORA, **values}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.2)
    return model


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(0, 64, (3, 12), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("targets", [(), ("q_proj", "v_proj")])
def test_a_merged_model_has_the_logits_of_the_adapted_one(
    tiny_model: Path, ids: torch.Tensor, targets: tuple[str, ...]
) -> None:
    from transformers import AutoModelForCausalLM

    model = adapted(tiny_model, target_modules=targets)
    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    before = plain(input_ids=ids).logits
    plain.load_state_dict(adapters.merged(model, model.state_dict()))
    after = plain(input_ids=ids).logits
    assert torch.allclose(after, model(input_ids=ids).logits, atol=1e-4)
    assert not torch.allclose(after, before, atol=1e-2)


def test_without_adapters_the_model_is_the_base_and_training_goes_on(tiny_model: Path, ids: torch.Tensor) -> None:
    from transformers import AutoModelForCausalLM

    model = adapted(tiny_model)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    trained_before = [name for name, p in model.named_parameters() if p.requires_grad]
    with adapters.without(model):
        assert torch.equal(model(input_ids=ids).logits, base(input_ids=ids).logits)
    assert not torch.allclose(model(input_ids=ids).logits, base(input_ids=ids).logits, atol=1e-2)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == trained_before
    assert trained_before
    assert all(".lora_" in name for name in trained_before)


def test_trees_equal_one_by_one_with_adapters_and_checkpointing(tiny_model: Path, tmp_path: Path) -> None:
    model = TokenLogProbs(adapted(tiny_model).train())
    dataset = load(write_rows(tmp_path, "dpo", rows_of("dpo", 6)), 64)
    wanted, wanted_gradients = one_by_one(model, dataset)
    assert all(".lora_" in name for name in wanted_gradients)
    for checkpointing in (False, True):
        if checkpointing:
            model.model.gradient_checkpointing_enable({"use_reentrant": False})
        got, gradients = result(model, dataset)
        assert torch.allclose(got, wanted, atol=1e-5, rtol=1e-5)
        same_gradients(gradients, wanted_gradients)


def test_an_unknown_layer_is_one_clear_error(tiny_model: Path) -> None:
    with pytest.raises(UserError, match=r"the model has no layer 'query'; it has .*q_proj"):
        adapted(tiny_model, target_modules=["query"])


def test_only_adapters_change_and_the_export_is_a_plain_model_that_has_learned(
    make_trainer: MakeTrainer, tiny_model: Path, ids: torch.Tensor
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    trainer = make_trainer("dpo", epochs=4, lora={**LORA, "keep": True})
    before = {name: p.detach().clone() for name, p in trainer.engine.module.named_parameters()}
    trainer.train()
    changed = {n for n, p in trainer.engine.module.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {name for name in before if ".lora_" in name}
    rows = read(trainer.job.metrics)
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert rows[-1]["loss"] < rows[0]["loss"]
    folder = trainer.job.output.local("model")
    assert weights(folder).keys() == weights(tiny_model).keys()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert type(model).__name__ == "LlamaForCausalLM"
    own = trainer.engine.module.model.eval()
    own.set_attn_implementation("sdpa")
    assert torch.allclose(model(input_ids=ids).logits, own(input_ids=ids).logits, atol=1e-4)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    alone = PeftModel.from_pretrained(base, str(folder / "adapter"))
    assert torch.allclose(model(input_ids=ids).logits, alone(input_ids=ids).logits, atol=1e-4)


@pytest.mark.parametrize("zero", [0, 3])
def test_an_adapter_exported_alone_is_a_policy_on_its_base(
    make_trainer: MakeTrainer, tiny_model: Path, ids: torch.Tensor, zero: int
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    trainer = make_trainer("sft", lora={**LORA, "merge": False}, placement={"zero_stage": zero})
    trainer.train()
    folder = trainer.job.output.local("model")
    files = {"adapter_config.json", "adapter_model.safetensors", "base.json", "README.md"}
    assert {path.name for path in folder.iterdir()} == files
    assert trained_policy(trainer.job.output) == Policy(str(tiny_model), trainer.job.output.key, str(folder))
    assert "library_name: peft" in (folder / "README.md").read_text()
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    before = base(input_ids=ids).logits
    after = PeftModel.from_pretrained(base, str(folder))(input_ids=ids).logits
    own = trainer.engine.module.model.eval()
    own.set_attn_implementation("sdpa")
    assert torch.allclose(after, own(input_ids=ids).logits, atol=1e-4)
    assert not torch.allclose(after, before, atol=1e-2)


def test_an_adapter_alone_has_no_second_copy() -> None:
    with pytest.raises(ValueError, match="keep: without merge the model is the adapter already"):
        LoraSettings(keep=True, merge=False)


@pytest.mark.parametrize("zero", [2, 3])
def test_zero_stages_agree_with_adapters(make_trainer: MakeTrainer, tmp_path: Path, zero: int) -> None:
    plain = trained(make_trainer("sft", root=tmp_path / "0", lora=LORA))
    sharded = trained(make_trainer("sft", root=tmp_path / "z", lora=LORA, placement={"zero_stage": zero}))
    assert sharded[0] == pytest.approx(plain[0], abs=1e-5)
    assert close(sharded[1], plain[1], 1e-3)


@pytest.mark.parametrize("zero", [0, 2])
def test_a_stopped_run_with_adapters_and_dropout_goes_on_exactly(
    make_trainer: MakeTrainer, tmp_path: Path, zero: int
) -> None:
    how: dict[str, Any] = {"checkpoint_steps": 2, "lora": {**LORA, "dropout": 0.1}, "placement": {"zero_stage": zero}}
    wanted = trained(make_trainer("dpo", root=tmp_path / "whole", epochs=2, **how))
    kill_at(make_trainer("dpo", root=tmp_path / "cut", epochs=2, **how), 3)
    got = trained(make_trainer("dpo", root=tmp_path / "cut", epochs=2, **how))
    assert got[0] == wanted[0]
    assert close(got[1], wanted[1], 0)


ELSEWHERE = [(0, "fp32"), (2, "fp32"), (3, "fp32"), (2, "bf16"), (3, "bf16")]


def on_workers(model: Path, root: Path, workers: int, zero: int, precision: str) -> Trainer:
    from app.training.launch import make_job
    from tests.training.conftest import context_of

    how: dict[str, Any] = {"epochs": 2, "checkpoint_steps": 1, "lora": LORA, "precision": precision}
    job = make_job(context_of(model, "dpo", root, placement={"workers": workers, "zero_stage": zero}, **how))
    job.output.local().mkdir(parents=True, exist_ok=True)
    return Trainer(job, load(job.dataset, job.settings.max_length, job.settings), torch.device("cpu"))


def go_on_elsewhere(model: Path, root: Path) -> None:
    """On each of two ranks: steps 3 and 4 of every run."""
    for zero, precision in ELSEWHERE:
        kill_at(on_workers(model, root / f"{zero}-{precision}", 2, zero, precision), 4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_with_adapters_goes_on_at_other_numbers_of_workers(
    one_rank: None, tiny_model: Path, tmp_path: Path
) -> None:
    """Begun on one worker, gone on with on two, ended on one: what frozen weights a checkpoint holds are put together
    as well.
    """
    roots = {how: tmp_path / f"{how[0]}-{how[1]}" for how in ELSEWHERE}
    for how, root in roots.items():
        kill_at(on_workers(tiny_model, root, 1, *how), 2)
    spawn(2, go_on_elsewhere, tmp_path / "store", tiny_model, tmp_path)
    for how, root in roots.items():
        got = trained(on_workers(tiny_model, root, 1, *how))
        wanted = trained(on_workers(tiny_model, tmp_path / "whole" / root.name, 1, *how))
        exact = how[1] == "fp32"
        assert got[0] == pytest.approx(wanted[0], abs=1e-5 if exact else 1e-2), how
        assert close(got[1], wanted[1], 1e-5 if exact else 1e-2), how


@pytest.mark.parametrize("zero", [0, 3])
def test_a_live_reference_is_the_stored_one(make_trainer: MakeTrainer, tmp_path: Path, zero: int) -> None:
    how: dict[str, Any] = {"epochs": 2, "lora": LORA, "placement": {"zero_stage": zero}}
    stored = trained(make_trainer("dpo", root=tmp_path / "a", **how))
    trainer = make_trainer("dpo", root=tmp_path / "b", reference="live", **how)
    assert trainer.reference is None
    lively = trained(trainer)
    assert lively[0] == pytest.approx(stored[0], abs=1e-5)
    assert close(lively[1], stored[1], 1e-3)


def test_a_live_reference_needs_adapters() -> None:
    with pytest.raises(ValueError, match="reference: live needs lora"):
        PreferenceSettings.model_validate({"epochs": 1, "reference": "live"})


def test_quantised_weights_need_a_gpu(make_trainer: MakeTrainer) -> None:
    with pytest.raises(UserError, match=r"runs\.sft\.lora\.quantize: needs a GPU"):
        make_trainer("sft", lora={**LORA, "quantize": True})
