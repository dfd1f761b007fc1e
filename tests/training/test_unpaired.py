"""KTO, step BCE and negative samples: the losses by their papers and by TRL, and through the real loop."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UserError
from app.training import launch, losses
from app.training.dataset import Dataset, Ragged, load, unrelated
from app.training.loop import Trainer
from app.training.metrics import read
from app.training.objectives import Batch, objective_of
from app.training.settings import BceSettings, KtoSettings, NegativesSettings
from tests.training.conftest import rows_of
from tests.training.test_loop import ROUNDING, close, kill_at, trained

MakeTrainer = Callable[..., Trainer]
METHODS = ("kto", "step_bce", "negatives")


def batch(gains: torch.Tensor, labels: torch.Tensor, divergence: float = 0.0) -> Batch:
    """Examples with these log pi/ref, weight 1."""
    ones = torch.ones(len(gains), 1)
    return Batch(gains[:, None] - 7, ones - 8, ones, ones[:, 0], labels, divergence)


# -- losses -----------------------------------------------------------------------------------------------------------


class _Accelerator:
    device = torch.device("cpu")

    @staticmethod
    def gather_for_metrics(values: Any) -> Any:
        return values


def trl_kto(gains: torch.Tensor, labels: torch.Tensor, kl: torch.Tensor, **values: float) -> float:
    """The mean loss TRL's KTOTrainer computes where policy and reference differ by these."""
    trainer = pytest.importorskip("trl.trainer.kto_trainer")
    policy, count = torch.stack([torch.zeros_like(gains), gains], dim=1), len(gains)
    outputs = SimpleNamespace(log_probs=policy, entropy=policy * 0, mean_logits=policy * 0)
    stub = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=_Accelerator(),
        aux_loss_enabled=False,
        precompute_ref_logps=True,
        calculate_KL=True,
        loss_type="kto",
        _compute_kl_logps=lambda *_: kl,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
        **values,
    )
    inputs = {
        "input_ids": torch.zeros(count, 3, dtype=torch.long),
        "attention_mask": torch.ones(count, 3, dtype=torch.long),
        "completion_mask": torch.tensor([[0, 1, 1]] * count),
        "label": labels,
        "ref_logps": torch.zeros(count),
        "ref_KL_logps": torch.zeros(count),
    }
    return float(trainer.KTOTrainer._compute_loss(stub, lambda **_: outputs, inputs, False))


@pytest.mark.parametrize("shift", [-2.0, 0.0, 3.0])
def test_kto_is_that_of_trl(shift: float) -> None:
    """Also where the estimate of the divergence is negative: then the reference point is 0."""
    torch.manual_seed(0)
    gains, labels, kl = 5 * torch.randn(9), torch.rand(9) > 0.4, torch.randn(9) + shift
    values = {"beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 0.7}
    how = KtoSettings.model_validate({"steps": 1, **values})
    total, _ = objective_of(how).loss(batch(gains, labels, max(0.0, float(kl.mean()))))
    assert float(total) / len(gains) == pytest.approx(trl_kto(gains, labels, kl, **values), rel=1e-5)


def test_bce_is_a_classifier_s_with_the_implicit_reward_as_logit() -> None:
    torch.manual_seed(0)
    gains, labels = 5 * torch.randn(9), torch.rand(9) > 0.5
    how = BceSettings(steps=1, beta=0.3, desirable_weight=2.0, undesirable_weight=0.5)
    total, sums = objective_of(how).loss(batch(gains, labels))
    weight = torch.where(labels, 2.0, 0.5)
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(0.3 * gains, labels.float(), weight, reduction="sum")
    assert float(total) == pytest.approx(float(wanted), rel=1e-5)
    assert sums["desirable"] == float(labels.sum()) and sums["accuracy"] == float(((gains > 0) == labels).sum())


@given(st.lists(st.tuples(st.floats(-12, 0), st.booleans()), min_size=1, max_size=8), st.floats(0, 1))
def test_negatives_push_each_token_by_p_times_1_minus_p(tokens: list[tuple[float, bool]], share: float) -> None:
    """The paper's gradient by a token's logit, times its weight where it is right: sure and lost tokens both stay."""
    logits = torch.tensor([logp for logp, _ in tokens], dtype=torch.float64).requires_grad_()
    right = torch.tensor([label for _, label in tokens])
    p = torch.sigmoid(logits)
    objective = objective_of(NegativesSettings(steps=1, positive_weight=share))
    ones = torch.ones(len(tokens), 1, dtype=torch.float64)
    sums = objective.of_tokens(p.log())[:, None]
    loss, _ = objective.loss(Batch(sums, ones, ones, ones[:, 0], right))
    loss.backward()
    wanted = (p * (1 - p)).detach() * torch.where(right, -share, 1.0)
    assert logits.grad is not None and torch.allclose(logits.grad, wanted)


def test_weights_are_of_examples() -> None:
    likelihood, right = torch.tensor([2.0, 3.0]), torch.tensor([True, False])
    assert float(losses.reinforced(likelihood, right, torch.tensor([1.0, 0.5]), 0.1)) == pytest.approx(-0.2 + 1.5)


# -- unrelated completions --------------------------------------------------------------------------------------------


def dataset_of(problems: list[int], longest: int = 5) -> Dataset:
    """Row i has a completion of 1 to `longest` tokens i."""
    completions = [np.full(1 + i % longest, i, np.int32) for i in range(len(problems))]
    prompts = [np.full(2 + i % 3, 9, np.int32) for i in range(len(problems))]
    ids, weights = [str(i) for i in range(len(problems))], np.ones(len(problems))
    branches = (Ragged.joined(completions),)
    return Dataset(ids, np.array(problems), Ragged.joined(prompts), branches, weights, {}, weights > 0)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=30).filter(lambda p: len(set(p)) > 1))
def test_partners_are_of_other_problems_and_each_is_used_once(problems: list[int]) -> None:
    made = unrelated(dataset_of(problems), 100)
    partners = [int(made.branches[0][i][0]) for i in range(len(problems))]
    assert sorted(partners) == list(range(len(problems)))
    assert [len(made.branches[0][i]) for i in range(len(problems))] == [1 + p % 5 for p in partners]
    if max(Counter(problems).values()) <= len(problems) / 2:
        assert all(problems[i] != problems[p] for i, p in enumerate(partners))


def test_they_are_cut_to_the_longest_length() -> None:
    made = unrelated(dataset_of(list(range(10)), longest=9), 8)
    whole = made.prompts.lengths + made.branches[0].lengths
    assert max(whole) == 8 and min(made.branches[0].lengths) > 0


def test_one_problem_alone_has_none() -> None:
    with pytest.raises(UserError, match="all rows are of one problem"):
        unrelated(dataset_of([3, 3, 3]), 100)


# -- the loop ---------------------------------------------------------------------------------------------------------


def logps(model: Any, prompt: list[int], completion: list[int]) -> torch.Tensor:
    """Log-probabilities of a completion's tokens, by transformers alone."""
    ids = torch.tensor([prompt + completion])
    every = torch.log_softmax(model(input_ids=ids).logits[0, :-1], -1).gather(1, ids[0, 1:, None])[:, 0]
    return every[len(prompt) - 1 :]


def plain_loss(model: Any, start: Any, method: str, trainer: Trainer, examples: np.ndarray) -> torch.Tensor:
    """The mean loss of a step, written from the papers' formulas, one sequence at a time."""
    dataset, how = trainer.dataset, trainer.job.settings
    rows = [([*map(int, dataset.prompts[i])], [*map(int, dataset.branches[0][i])]) for i in examples]
    labels = [bool(dataset.labels[i]) for i in examples]  # type: ignore[index]
    if method == "negatives":
        each = [logps(model, *row).exp().sum() * (-0.1 if ok else 1.0) for row, ok in zip(rows, labels, strict=True)]
        return torch.stack(each).sum() / sum(len(completion) for _, completion in rows)
    assert isinstance(how, KtoSettings | BceSettings)
    with torch.no_grad():
        before = [logps(start, *row).sum() for row in rows]
        point = torch.tensor(0.0)
        if method == "kto":
            others = unrelated(dataset, how.max_length)
            pairs = [([*map(int, others.prompts[i])], [*map(int, others.branches[0][i])]) for i in examples]
            point = torch.stack([logps(model, *p).sum() - logps(start, *p).sum() for p in pairs]).mean().clamp(min=0)
    losses_of = []
    for row, ok, known in zip(rows, labels, before, strict=True):
        reward, sign = logps(model, *row).sum() - known - point, 1 if ok else -1
        value = torch.sigmoid(sign * how.beta * reward)
        weight = how.desirable_weight if ok else how.undesirable_weight
        losses_of.append(weight * (1 - value if method == "kto" else -value.log()))
    return torch.stack(losses_of).mean()


@pytest.mark.parametrize("method", METHODS)
def test_training_equals_a_plain_loop(make_trainer: MakeTrainer, tiny_model: Path, method: str) -> None:
    from transformers import AutoModelForCausalLM

    more = {} if method == "negatives" else {"beta": 0.5, "desirable_weight": 0.6, "undesirable_weight": 1.4}
    trainer = make_trainer(method, epochs=2, schedule="constant", warmup=0, micro_batch=3, **more)
    found, got = trained(trainer)
    model, start = (AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32) for _ in range(2))
    optimizer, wanted = torch.optim.AdamW(model.parameters(), 5e-3, betas=(0.9, 0.95), weight_decay=0.0), []
    for step in range(trainer.order.steps):
        loss = plain_loss(model, start, method, trainer, trainer.order.step(step))
        loss.backward()
        wanted.append(float(loss.detach()))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert found == pytest.approx(wanted, abs=1e-4)
    assert close(got, {k: v for k, v in model.state_dict().items() if k in got}, 4 * ROUNDING)
    if method == "kto":
        assert found[0] == pytest.approx(0.5 * np.mean([1.4 if i % 3 == 0 else 0.6 for i in trainer.order.step(0)]))
        assert read(trainer.job.metrics)[-1]["divergence"] > 0


@pytest.mark.parametrize("method", METHODS)
def test_right_completions_gain_on_wrong_ones(make_trainer: MakeTrainer, method: str) -> None:
    trainer = make_trainer(method, epochs=8, schedule="constant", warmup=0)
    trainer.train()
    rows = read(trainer.job.metrics)
    assert rows[-1]["loss"] < rows[0]["loss"]
    if method == "negatives":
        assert rows[-1]["likelihood_wrong"] < 0.5 * rows[0]["likelihood_wrong"]
        return
    assert rows[0]["loss"] == pytest.approx({"kto": 0.5, "step_bce": math.log(2)}[method], abs=1e-4)
    assert rows[0]["gain_desirable"] == pytest.approx(0, abs=1e-3)
    assert rows[-1]["gain_desirable"] > rows[-1]["gain_undesirable"] + 1
    assert rows[-1]["accuracy"] > 0.8 and rows[-1]["margin"] > 0


@pytest.mark.parametrize("method", METHODS)
def test_micro_batches_do_not_change_the_result(make_trainer: MakeTrainer, tmp_path: Path, method: str) -> None:
    one, two = (trained(make_trainer(method, root=tmp_path / str(m), micro_batch=m)) for m in (1, 8))
    assert one[0] == pytest.approx(two[0], abs=1e-5) and close(one[1], two[1], ROUNDING)


@pytest.mark.parametrize("method", METHODS)
def test_weights_of_examples_count_as_repeats(make_trainer: MakeTrainer, tmp_path: Path, method: str) -> None:
    """But for KTO's reference point, which is a mean over examples, whatever they weigh: at the start it is 0."""
    rows = rows_of(method, 2)
    again = [*rows, dataclasses.replace(rows[1], id="again")]
    heavy = [rows[0], dataclasses.replace(rows[1], weight=2.0)]
    made = [make_trainer(method, rows=r, root=tmp_path / str(len(r)), batch=len(r), epochs=1) for r in (again, heavy)]
    assert close(*(trained(trainer)[1] for trainer in made), ROUNDING)


def test_interrupted_and_resumed_equals_uninterrupted(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    how: dict[str, Any] = {"epochs": 3, "checkpoint_steps": 2, "placement": {"zero_stage": 2}}
    wanted = trained(make_trainer("kto", root=tmp_path / "whole", **how))
    for stop in (1, 5, 8):
        kill_at(make_trainer("kto", root=tmp_path / "cut", **how), stop)
    got = trained(make_trainer("kto", root=tmp_path / "cut", **how))
    assert got[0] == wanted[0] and close(got[1], wanted[1], 0)


@pytest.mark.parametrize("method", ["kto", "step_bce"])
def test_adapters_alone_give_the_same_reference(make_trainer: MakeTrainer, tmp_path: Path, method: str) -> None:
    how: dict[str, Any] = {"lora": {"r": 4}, "epochs": 2}
    stored = trained(make_trainer(method, root=tmp_path / "stored", **how))
    live = make_trainer(method, root=tmp_path / "live", reference="live", **how)
    assert live.reference is None and live.unrelated_reference is None
    got = trained(live)
    assert got[0] == pytest.approx(stored[0], abs=1e-5) and close(got[1], stored[1], ROUNDING)


def test_another_reference_than_the_start(make_trainer: MakeTrainer, make_context: Any, tmp_path: Path) -> None:
    """The chain's first policy: both the completions' and the unrelated ones' log-probabilities are its own."""
    from app.policy import Policy
    from app.training.launch import make_job

    first = make_trainer("kto", root=tmp_path / "first")
    trained(first)
    context = make_context("kto", root=tmp_path / "second", model=first.job.output.local("model"))
    job = dataclasses.replace(make_job(context), reference=Policy(first.job.policy, first.job.fingerprint))
    job.output.local().mkdir(parents=True, exist_ok=True)
    second = Trainer(job, load(job.dataset, job.settings.max_length, job.settings), torch.device("cpu"))
    assert np.allclose(second.reference, first.reference, atol=1e-4)  # type: ignore[arg-type]
    assert np.allclose(second.unrelated_reference, first.unrelated_reference, atol=1e-4)  # type: ignore[arg-type]
    row = second.step(0)
    assert row["loss"] != pytest.approx(0.5, abs=1e-4) and row["gain_desirable"] > row["gain_undesirable"]


@pytest.mark.parametrize("method", METHODS)
def test_labels_are_needed(make_context: Any, tmp_path: Path, method: str) -> None:
    from app.records import Example
    from app.training.launch import make_job

    context = make_context(method, rows=[])
    plain = dataclasses.replace(context.inputs["dataset"], root=str(tmp_path / "plain"))
    plain.write_shard(0, Example.table(rows_of("sft", 3)))
    with pytest.raises(UserError, match="a loss on labelled examples needs a column label"):
        load(plain, 64, make_job(context).settings)


# -- under Ray Train --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "workers"),
    [
        ("kto", 2),
        pytest.param("step_bce", 1, marks=pytest.mark.slow),
        pytest.param("negatives", 1, marks=pytest.mark.slow),
    ],
)
def test_a_stage_trains_and_exports(
    ray_local: str, make_context: Any, make_trainer: MakeTrainer, tmp_path: Path, method: str, workers: int
) -> None:
    """Two workers share KTO's reference point: the losses are those of one."""
    context = make_context(method, root=tmp_path / "stage", placement={"workers": workers})
    launch.run(context)
    table = context.output.read()
    alone, _ = trained(make_trainer(method, root=tmp_path / "alone"))
    assert table["loss"].to_pylist() == pytest.approx(alone, abs=1e-4)
    column = "likelihood_wrong" if method == "negatives" else "gain_undesirable"
    assert len(table[column]) == 3 and context.output.local("model/model.safetensors").is_file()
