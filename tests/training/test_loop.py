"""The loop with real DeepSpeed in this process: against plain PyTorch, interrupted, sharded, and with bad luck."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from app.errors import UserError
from app.training import checkpoint
from app.training.loop import Trainer, learning_rate
from app.training.metrics import read
from app.training.settings import TrainSettings
from tests.training.conftest import example, rows_of

MakeTrainer = Callable[..., Trainer]
# Adam turns rounding in a vanishing gradient into a part of a step: a tenth of one (learning rate 5e-3) is allowed.
ROUNDING = 5e-4


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def trained(trainer: Trainer) -> tuple[list[float], dict[str, torch.Tensor]]:
    trainer.train()
    return [row["loss"] for row in read(trainer.job.metrics)], weights(trainer.job.output.local("model"))


def close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], atol: float = 1e-6) -> bool:
    return a.keys() == b.keys() and all(torch.allclose(a[k], b[k], atol=atol) for k in a)


def test_sft_equals_a_plain_loop(make_trainer: MakeTrainer, tiny_model: Path) -> None:
    """Against transformers' own loss, AdamW, clipping and one example at a time: same losses, same final weights."""
    from transformers import AutoModelForCausalLM

    trainer = make_trainer("sft", epochs=2, schedule="linear", warmup=0.3, max_grad_norm=0.5)
    losses, got = trained(trainer)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.0)
    rows, wanted = rows_of("sft", 24), []
    for step in range(trainer.order.steps):
        chosen = [rows[i] for i in trainer.order.step(step)]
        total = 0.0
        for row in chosen:
            ids = torch.tensor([row.prompt_token_ids + row.completion_token_ids])
            labels = ids.clone()
            labels[0, : len(row.prompt_token_ids)] = -100
            loss = model(input_ids=ids, labels=labels).loss * len(row.completion_token_ids)
            loss = loss / sum(len(r.completion_token_ids) for r in chosen)
            loss.backward()
            total += float(loss.detach())
        wanted.append(total)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(trainer.job.settings, step, trainer.order.steps)
        optimizer.step()
        optimizer.zero_grad()
    assert losses == pytest.approx(wanted, abs=1e-5)
    assert losses[-1] < losses[0]
    assert close(got, {k: v for k, v in model.state_dict().items() if k in got}, atol=ROUNDING)


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_weights_of_examples_count_as_repeats(make_trainer: MakeTrainer, tmp_path: Path, method: str) -> None:
    import dataclasses

    rows = rows_of(method, 2)
    twice = make_trainer(
        method,
        rows=[rows[0], rows[1], dataclasses.replace(rows[1], id="again")],
        root=tmp_path / "a",
        batch=3,
        epochs=1,
    )
    heavy = make_trainer(
        method, rows=[rows[0], dataclasses.replace(rows[1], weight=2.0)], root=tmp_path / "b", batch=2, epochs=1
    )
    assert close(trained(twice)[1], trained(heavy)[1], ROUNDING)


def test_dpo_starts_at_ln_2_and_learns_the_preference(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("dpo", epochs=6, schedule="constant", warmup=0)
    trainer.train()
    rows = read(trainer.job.metrics)
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert rows[-1]["loss"] < 0.5 < rows[0]["loss"]
    assert rows[-1]["accuracy"] > 0.9
    assert rows[-1]["margin"] > 0.5
    assert rows[0]["logp_chosen"] == pytest.approx(
        float(trainer.reference[trainer.order.step(0)][:, 0].mean()),
        abs=1e-4,  # type: ignore[index]
    )


def test_the_nll_term_is_a_mean_over_the_chosen_tokens(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("step_dpo", rpo_alpha=2.0)
    examples = trainer.order.step(0)
    first = trainer.step(0)
    each = -trainer.reference[examples][:, 0] / trainer.dataset.completion_lengths(examples)[:, 0]  # type: ignore[index]
    assert first["loss"] == pytest.approx(math.log(2) + 2.0 * float(each.mean()), abs=1e-4)


def test_micro_batches_do_not_change_the_result(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    results = [trained(make_trainer("dpo", root=tmp_path / str(m), micro_batch=m))[1] for m in (1, 3, 8)]
    assert close(results[0], results[1], ROUNDING)
    assert close(results[0], results[2], ROUNDING)
    by_tokens = trained(make_trainer("dpo", root=tmp_path / "tokens", micro_batch_tokens=60))[1]
    assert close(results[0], by_tokens, ROUNDING)


def test_one_trunk_a_problem_gives_the_result_of_single_pairs(
    make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    rows = rows_of("dpo", 24)
    rows = [
        dataclasses.replace(r, problem_id=f"p{i % 5}", prompt_token_ids=rows[i % 5].prompt_token_ids)
        for i, r in enumerate(rows)
    ]
    shared = make_trainer("dpo", rows=rows, root=tmp_path / "shared", group="problem")
    together = trained(shared)
    alone = make_trainer("dpo", rows=rows, root=tmp_path / "alone", group="problem")
    inner = alone.dataset.rows
    monkeypatch.setattr(type(alone.dataset), "rows", lambda _, indices, **__: inner(indices, share=False))
    apart = trained(alone)
    assert together[0] == pytest.approx(apart[0], abs=1e-5)
    assert close(together[1], apart[1], ROUNDING)
    computed = [sum(row["computed_tokens"] for row in read(t.job.metrics)) for t in (shared, alone)]
    assert computed[0] < 0.8 * computed[1]


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_zero_stages_agree(make_trainer: MakeTrainer, tmp_path: Path, zero: int) -> None:
    plain = trained(make_trainer("sft", root=tmp_path / "0"))
    sharded = trained(make_trainer("sft", root=tmp_path / "z", placement={"zero_stage": zero}))
    assert sharded[0] == pytest.approx(plain[0], abs=1e-5)
    assert close(sharded[1], plain[1], ROUNDING)


def test_bf16_follows_float32(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    exact = trained(make_trainer("sft", root=tmp_path / "a", epochs=3))
    half = trained(make_trainer("sft", root=tmp_path / "b", epochs=3, precision="bf16"))
    assert half[0] == pytest.approx(exact[0], rel=0.05)
    assert all(value.dtype == torch.bfloat16 for value in half[1].values())


class Killed(BaseException):
    """Stands for a process that stops between two steps."""


def kill_at(trainer: Trainer, step: int) -> None:
    inner = trainer.step

    def step_or_die(index: int) -> dict[str, float]:
        if index == step:
            trainer.checkpoints.settle(wait=True)  # the last one has arrived
            raise Killed
        return inner(index)

    trainer.step = step_or_die  # type: ignore[method-assign]
    with pytest.raises(Killed):
        trainer.train()


@pytest.mark.parametrize(("method", "zero"), [("sft", 0), ("dpo", 2), ("sft", 3)])
def test_interrupted_and_resumed_equals_uninterrupted(
    make_trainer: MakeTrainer, tmp_path: Path, method: str, zero: int
) -> None:
    how: dict[str, Any] = {"epochs": 3, "checkpoint_steps": 2, "placement": {"zero_stage": zero}}
    wanted = trained(make_trainer(method, root=tmp_path / "whole", **how))
    for stop in (1, 5, 8):  # before the first checkpoint, in the middle of an epoch, in the last step
        kill_at(make_trainer(method, root=tmp_path / "cut", **how), stop)
    got = trained(make_trainer(method, root=tmp_path / "cut", **how))
    assert got[0] == wanted[0]
    assert close(got[1], wanted[1], 0)
    kept = checkpoint.complete(make_trainer(method, root=tmp_path / "cut", **how).job.output.local("checkpoints"))
    assert [path.name for path in kept] == ["step-00000006", "step-00000008"]


def test_checkpoints_come_by_the_clock_where_no_steps_are_given(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer("sft", steps=9, epochs=None, placement={"checkpoint_minutes": 2.0, "keep_checkpoints": True})
    clock = iter(range(0, 6000, 50))  # seconds of each look at the clock
    looks = SimpleNamespace(monotonic=lambda: next(clock), perf_counter=time.perf_counter, time=time.time)
    monkeypatch.setattr("app.training.loop.time", looks)  # this module's alone: other threads look at the clock too
    trainer.saved, saved = next(clock), list[int]()
    inner = trainer.save
    monkeypatch.setattr(trainer, "save", lambda done: (saved.append(done), inner(done))[1])
    trainer.train()
    assert saved == [3, 6]  # 150 s, and again with the look that a checkpoint itself takes


@pytest.mark.parametrize(
    ("name", "place"),
    [
        pytest.param("compile", {"compile": True}, marks=pytest.mark.slow),
        ("away", {"gpus": 1, "activation_offload": True}),
    ],
)
def test_compiled_layers_and_activations_that_are_away_change_nothing(
    make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: dict[str, Any]
) -> None:
    """Compiled by a backend that needs no compiler; as on a GPU, but for where the activations wait."""
    import functools

    monkeypatch.setattr(
        torch.nn.Module, "compile", functools.partialmethod(torch.nn.Module.compile, backend="aot_eager")
    )
    how: dict[str, Any] = {"steps": 3, "epochs": None, "precision": "fp32"}
    plain = trained(make_trainer("dpo", root=tmp_path / "plain", **how))
    got = trained(make_trainer("dpo", root=tmp_path / name, placement=place, **how))
    assert got[0] == pytest.approx(plain[0], abs=1e-5)
    assert close(got[1], plain[1], ROUNDING)


def test_activations_that_are_computed_again_cannot_be_away(make_trainer: MakeTrainer) -> None:
    with pytest.raises(UserError, match=r"activation_offload has nothing to move beside\s+gradient_checkpointing"):
        make_trainer("sft", gradient_checkpointing=True, placement={"gpus": 1, "activation_offload": True})


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def overwrite(file: Path) -> None:
    """Zeros in the middle, as a lost page leaves them; the size stays."""
    body = bytearray(file.read_bytes())
    body[len(body) // 2 : len(body) // 2 + 100] = bytes(100)
    file.write_bytes(bytes(body))


@pytest.mark.parametrize("damage", [cut_off, overwrite, Path.unlink])
def test_a_damaged_checkpoint_is_passed_over(
    make_trainer: MakeTrainer, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    how: dict[str, Any] = {"epochs": 3, "checkpoint_steps": 2}
    wanted = trained(make_trainer("sft", root=tmp_path / "whole", **how))
    kill_at(make_trainer("sft", root=tmp_path / "cut", **how), 5)
    trainer = make_trainer("sft", root=tmp_path / "cut", **how)
    folder = trainer.job.output.local("checkpoints")
    damage(max((folder / "step-00000004").rglob("*.pt"), key=lambda f: f.stat().st_size))
    assert [p.name for p in checkpoint.damaged(folder)] == ["step-00000004"]
    got = trained(trainer)
    assert got[0] == wanted[0]
    assert close(got[1], wanted[1], 0)


def test_a_checkpoint_that_cannot_be_read_is_one_clear_error(make_trainer: MakeTrainer) -> None:
    """Whole by its listing, but not what this code can read."""
    kill_at(make_trainer("sft", checkpoint_steps=1), 2)
    trainer = make_trainer("sft", checkpoint_steps=1)
    path = checkpoint.complete(trainer.job.output.local("checkpoints"))[-1]
    biggest = max(path.rglob("*.pt"), key=lambda f: f.stat().st_size)
    biggest.write_bytes(b"not a checkpoint")
    listing = json.loads((path / checkpoint.LISTING).read_text())
    listing["files"][str(biggest.relative_to(path))] = checkpoint.sampled_digest(biggest)
    (path / checkpoint.LISTING).write_text(json.dumps(listing))
    with pytest.raises(
        UserError, match=r"step-00000002: cannot be read \(.*\); delete it to go on from the one before"
    ):
        trainer.train()


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("factor", ["nan", "inf"])
def test_a_gradient_that_is_no_number_ends_the_run(
    make_trainer: MakeTrainer, zero: int, precision: str, factor: str
) -> None:
    """The loss may still be finite. No weight is touched, and no checkpoint is made."""
    import deepspeed

    trainer = make_trainer("sft", checkpoint_steps=1, precision=precision, placement={"zero_stage": zero})
    parameters = list(trainer.engine.module.parameters())

    def held() -> list[torch.Tensor]:
        with deepspeed.zero.GatheredParameters(parameters, enabled=zero == 3):
            return [parameter.detach().clone() for parameter in parameters]

    before = held()
    parameters[0].register_hook(lambda gradient: gradient * float(factor))
    with pytest.raises(
        UserError, match="training/sft: the gradient norm is (nan|inf) at step 1; try a smaller learning_rate"
    ):
        trainer.train()
    assert all(torch.equal(old, new) for old, new in zip(before, held(), strict=True))
    assert not checkpoint.complete(trainer.job.output.local("checkpoints"))


def test_token_ids_the_model_does_not_know_are_refused_on_the_worker_too(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    """The driver cannot look into weights that a hub holds; the workers have them."""
    import random

    rows = [example(0, random.Random(0), completion_token_ids=[70, 1])]
    with pytest.raises(UserError, match=r"row e0 \(branch 0\) has token id 70, but the model .* knows only 64 tokens"):
        make_trainer("sft", rows=rows)


def test_a_checkpoint_of_another_layout_is_refused(make_trainer: MakeTrainer) -> None:
    kill_at(make_trainer("sft", checkpoint_steps=1), 2)
    with pytest.raises(UserError, match="written with zero 0, now it is 2; set it back, or delete"):
        make_trainer("sft", checkpoint_steps=1, placement={"zero_stage": 2}).train()


def test_a_loss_that_is_no_number_is_one_clear_error(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("sft")
    with torch.no_grad():
        next(trainer.engine.module.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match="training/sft: the loss is nan at step 1; try a smaller learning_rate"):
        trainer.train()
    assert not trainer.job.output.local("model").exists()


@pytest.mark.parametrize("shift", [[[1.0, 0.0]], [[1.0, 1.0]], [[-0.5, 0.0]]])
def test_a_reference_of_other_weights_is_refused(make_trainer: MakeTrainer, shift: list[list[float]]) -> None:
    """Also one whose branches are off alike: the mean loss of the step says nothing of that."""
    trainer = make_trainer("dpo")
    assert trainer.reference is not None
    trainer.reference = trainer.reference + np.array(shift, np.float32)
    with pytest.raises(UserError, match=r"at the first step a branch's log-probability is .* nats further"):
        trainer.train()
    assert not trainer.job.output.local("model").exists()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_start_is_as_near_its_reference_as_rounding_lets_it(make_trainer: MakeTrainer, precision: str) -> None:
    """Micro-batches of another size than the reference's pack the same pairs otherwise."""
    trainer = make_trainer("dpo", precision=precision, micro_batch=1, gradient_checkpointing=True)
    trainer.train()
    assert trainer.astray == 0


def test_simpo_computes_no_reference(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.training.reference.log_probs", lambda *_: pytest.fail("computed"))
    trainer = make_trainer("dpo", loss="simpo", beta=2.0)
    assert trainer.reference is None
    trainer.train()
    assert len(read(trainer.job.metrics)) == trainer.order.steps


def test_weights_that_were_made_anew_meet_no_old_reference(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """The key of a start says which stage made it, not what that holds now."""
    import dataclasses
    import shutil

    from app.training.reference import reference_name

    trainer = make_trainer("dpo")
    job, dataset = trainer.job, trainer.dataset
    assert reference_name(dataclasses.replace(job, fingerprint="another-key"), dataset) == reference_name(job, dataset)
    shutil.copytree(job.policy, tmp_path / "anew")
    model = tmp_path / "anew" / "model.safetensors"
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    again = dataclasses.replace(job, policy=str(tmp_path / "anew"))
    assert reference_name(again, dataset) != reference_name(job, dataset)


def test_the_reference_is_computed_once(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a run with other settings, whose stage has another key; not for other tokens under the same ids."""
    import dataclasses

    from app.training.reference import reference

    trainer = make_trainer("dpo")
    first = trainer.reference
    calls: list[str] = []
    monkeypatch.setattr("app.training.reference.log_probs", lambda *_: calls.append("computed") or first)
    other = dataclasses.replace(trainer.job, output=dataclasses.replace(trainer.job.output, key="other"))
    assert np.array_equal(first, reference(trainer.engine, trainer.dataset, other, trainer.device))  # type: ignore[arg-type]
    assert calls == []
    changed = rows_of("dpo", 24)
    changed[3] = dataclasses.replace(changed[3], chosen_token_ids=[9, 9, 1])
    make_trainer("dpo", rows=changed)
    assert calls == ["computed"]


def test_useful_tokens_and_mfu(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """Useful tokens are the data's own; MFU is there only where the peak is known, and follows from its parts."""
    plain = make_trainer("dpo", root=tmp_path / "a").step(0)
    assert "mfu" not in plain
    trainer = make_trainer("dpo", root=tmp_path / "b", placement={"peak_tflops": 0.001})
    examples, row = trainer.order.step(0), trainer.step(0)
    rows = {pair.id: pair for pair in rows_of("dpo", 24)}
    pairs = [rows[trainer.dataset.ids[i]] for i in examples]
    tokens = sum(len(p.prompt_token_ids) + len(p.chosen_token_ids) + len(p.rejected_token_ids) for p in pairs)
    assert row["useful_tokens"] == plain["useful_tokens"] == tokens
    assert row["useful_tokens_per_second"] == pytest.approx(tokens / row["seconds"])
    assert row["mfu"] == pytest.approx(trainer.cost.flops(tokens, tokens / 16) / (row["seconds"] * 1e9))
    assert row["length_chosen"] == pytest.approx(np.mean([len(p.chosen_token_ids) for p in pairs]))
    assert row["gain_chosen"] == pytest.approx(0, abs=1e-4)


def test_exported_weights_load_and_are_those_of_the_engine(make_trainer: MakeTrainer) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trainer = make_trainer("sft")
    trainer.train()
    folder = trainer.job.output.local("model")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    own = trainer.engine.module.model.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())
    assert AutoTokenizer.from_pretrained(folder).encode("w3 w4") == [3, 4]
    told = (folder / "README.md").read_text()
    assert "stage `datasets/sft`, key `k`: 24 examples (left out: none)" in told
    assert "`training/sft`, key `k`: 3 steps, seed 0" in told


def test_learning_rate_warms_up_and_comes_down() -> None:
    base = {"epochs": 1, "learning_rate": 1.0, "warmup": 0.2}

    def rates(schedule: str) -> list[float]:
        settings = TrainSettings.model_validate({**base, "schedule": schedule})
        return [learning_rate(settings, step, 10) for step in range(10)]

    assert rates("constant") == [0.5, 1.0] + [1.0] * 8
    assert rates("linear")[2:] == pytest.approx([1 - k / 8 for k in range(8)])
    assert rates("cosine")[2:] == pytest.approx([0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(8)])


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_a_model_that_cannot_branch_trains_on_plain_sequences(
    make_trainer: MakeTrainer, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    import shutil

    from transformers import MambaConfig, MambaForCausalLM

    folder = tmp_path / "mamba"
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("config.json", "*.safetensors"))
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2, state_size=4)
    MambaForCausalLM(config).save_pretrained(folder)
    trainer = make_trainer(method, model=folder, epochs=2, warmup=0)
    assert "sequences are computed one by one, not over shared trunks: it carries a state" in capsys.readouterr().out
    losses, _ = trained(trainer)
    assert losses[-1] < losses[0]
    if method == "dpo":
        assert losses[0] == pytest.approx(math.log(2), abs=1e-4)
