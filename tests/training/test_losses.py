"""Losses against their formulas written out with math, and against TRL's own code on the same log-probabilities."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.training import losses
from app.training.settings import PreferenceSettings

LOGPS = st.floats(-40, 0, width=32)
PAIR = st.tuples(LOGPS, LOGPS)


def settings(**values: Any) -> PreferenceSettings:
    return PreferenceSettings.model_validate({"init": "base", "epochs": 1, **values})


def one(policy: tuple[float, float], reference: tuple[float, float], lengths: tuple[int, int], **values: Any) -> float:
    tensors = [torch.tensor([x], dtype=torch.float64) for x in (policy, reference, lengths)]
    return float(losses.preference(settings(**values), *tensors)[0])


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))


@given(PAIR, PAIR, st.floats(0.01, 1), st.floats(0, 0.4))
def test_sigmoid_family_as_written_in_the_papers(
    policy: tuple[float, float], reference: tuple[float, float], beta: float, noise: float
) -> None:
    h = (policy[0] - reference[0]) - (policy[1] - reference[1])
    same, flipped = log_sigmoid(beta * h), log_sigmoid(-beta * h)
    common = {"beta": beta, "label_noise": noise}
    got = {name: one(policy, reference, (3, 5), loss=name, **common) for name in ("sigmoid", "hinge", "cdpo", "robust")}
    assert got["sigmoid"] == pytest.approx(-same, abs=1e-9)
    assert got["hinge"] == pytest.approx(max(0.0, 1 - beta * h), abs=1e-9)
    assert got["cdpo"] == pytest.approx(-(1 - noise) * same - noise * flipped, abs=1e-9)
    assert got["robust"] == pytest.approx((-(1 - noise) * same + noise * flipped) / (1 - 2 * noise), abs=1e-9)


@given(PAIR, PAIR, st.integers(1, 30), st.integers(1, 30))
def test_length_normalised_losses(
    policy: tuple[float, float], reference: tuple[float, float], chosen: int, rejected: int
) -> None:
    ratio = (policy[0] - reference[0]) / chosen - (policy[1] - reference[1]) / rejected
    assert one(policy, reference, (chosen, rejected), loss="ipo", beta=0.3) == pytest.approx((ratio - 1 / 0.6) ** 2)
    mean = policy[0] / chosen - policy[1] / rejected
    simpo = one(policy, reference, (chosen, rejected), loss="simpo", beta=2.5, target_margin=1.375)
    assert simpo == pytest.approx(-log_sigmoid(2.5 * mean - 1.375), abs=1e-9)


def test_dpop_punishes_a_fallen_chosen_branch_only() -> None:
    plain = one((-5, -9), (-6, -8), (4, 4), loss="sigmoid")
    assert one((-5, -9), (-6, -8), (4, 4), loss="dpop") == plain
    fallen = one((-7, -11), (-6, -8), (4, 4), loss="dpop", beta=0.1, fall_penalty=50)
    assert fallen == pytest.approx(-log_sigmoid(0.1 * (2 - 50 * 1)), abs=1e-6)


@pytest.mark.parametrize("name", ["sigmoid", "hinge", "ipo", "cdpo", "robust", "dpop"])
@given(PAIR)
def test_where_policy_is_reference_the_loss_is_known(name: str, policy: tuple[float, float]) -> None:
    values = {"loss": name, "beta": 0.2, "label_noise": 0.1}
    assert one(policy, policy, (3, 7), **values) == pytest.approx(losses.at_start(settings(**values)), abs=1e-9)


def test_sequences_are_sums_of_their_tokens_and_nll_is_weighted() -> None:
    sums = losses.per_sequence(torch.tensor([-1.0, -2.0, -4.0, -8.0]), torch.tensor([1, 0, 1, 2]), 4)
    assert sums.tolist() == [-2.0, -5.0, -8.0, 0.0]
    assert float(losses.nll(sums, torch.tensor([1.0, 0.5, 0.0, 3.0]))) == 4.5
    assert losses.chosen_nll(torch.tensor([[-6.0, -1.0]]), torch.tensor([[3, 9]])).tolist() == [2.0]


class _Accelerator:
    """The little of accelerate that TRL's loss touches, for one process."""

    device = torch.device("cpu")

    @staticmethod
    def gather_for_metrics(value: torch.Tensor) -> torch.Tensor:
        return value

    gather = gather_for_metrics


def trl_loss(name: str, token_logps: torch.Tensor, mask: torch.Tensor, reference: torch.Tensor, **values: Any) -> float:
    """TRL's DPOTrainer._compute_loss with a model that returns given token log-probabilities (2 P, L)."""
    from collections import defaultdict

    trainer = pytest.importorskip("trl.trainer.dpo_trainer")
    zeros = torch.zeros_like(token_logps)
    outputs = SimpleNamespace(log_probs=token_logps, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())
    stub = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=_Accelerator(),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[name],
        loss_weights=[1.0],
        use_weighting=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
        **values,
    )
    pairs = len(reference)
    completion_mask = torch.cat([torch.zeros(2 * pairs, 1, dtype=torch.long), mask], dim=1)
    inputs = {
        "input_ids": torch.zeros_like(completion_mask),
        "attention_mask": torch.ones_like(completion_mask),
        "completion_mask": completion_mask,
        "ref_chosen_logps": reference[:, 0],
        "ref_rejected_logps": reference[:, 1],
    }
    return float(trainer.DPOTrainer._compute_loss(stub, lambda **_: outputs, inputs, False))


@pytest.mark.parametrize("name", ["sigmoid", "hinge", "ipo", "robust"])
def test_losses_are_those_of_trl(name: str) -> None:
    torch.manual_seed(0)
    pairs, length = 6, 9
    lengths = torch.randint(2, length + 1, (2 * pairs,))
    mask = (torch.arange(length)[None] < lengths[:, None]).long()
    token_logps = -torch.rand(2 * pairs, length) * 3 * mask  # TRL puts 0 where there is no label
    reference = token_logps.sum(1).view(2, pairs).T + torch.randn(pairs, 2)
    values = {"beta": 0.3, "label_smoothing": 0.1}
    theirs = trl_loss(name, token_logps, mask, reference, **values)
    policy, own = token_logps.sum(1).view(2, pairs).T, lengths.view(2, pairs).T
    ours = losses.preference(settings(loss=name, beta=0.3, label_noise=0.1), policy, reference, own).mean()
    assert float(ours) == pytest.approx(theirs, rel=1e-6)
