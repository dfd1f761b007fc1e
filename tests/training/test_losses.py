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
    return PreferenceSettings.model_validate({"epochs": 1, **values})


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
    common = {"beta": beta, "label_smoothing": noise}
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
    simpo = one(policy, reference, (chosen, rejected), loss="simpo", beta=2.5, simpo_gamma=1.375)
    assert simpo == pytest.approx(-log_sigmoid(2.5 * mean - 1.375), abs=1e-9)


def test_dpop_punishes_a_fallen_chosen_branch_only() -> None:
    plain = one((-5, -9), (-6, -8), (4, 4), loss="sigmoid")
    assert one((-5, -9), (-6, -8), (4, 4), loss="dpop") == plain
    fallen = one((-7, -11), (-6, -8), (4, 4), loss="dpop", beta=0.1, dpop_lambda=50)
    assert fallen == pytest.approx(-log_sigmoid(0.1 * (2 - 50 * 1)), abs=1e-6)


AT_START = {"hinge": 1.0, "ipo": 1 / (4 * 0.2**2)}


@pytest.mark.parametrize("name", ["sigmoid", "hinge", "ipo", "cdpo", "robust", "dpop"])
@given(PAIR)
def test_where_policy_is_reference_the_loss_is_known(name: str, policy: tuple[float, float]) -> None:
    values = {"loss": name, "beta": 0.2, "label_smoothing": 0.1}
    assert one(policy, policy, (3, 7), **values) == pytest.approx(AT_START.get(name, math.log(2)), abs=1e-9)


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
    ours = losses.preference(settings(loss=name, beta=0.3, label_smoothing=0.1), policy, reference, own).mean()
    assert float(ours) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("name", ["simpo", "cdpo"])
def test_losses_without_reference_are_those_of_trl(name: str) -> None:
    """CPOTrainer has SimPO, and with label smoothing conservative DPO where the reference cancels."""
    trainer = pytest.importorskip("trl.experimental.cpo.cpo_trainer")
    torch.manual_seed(0)
    policy, lengths = -20 * torch.rand(7, 2), torch.randint(2, 30, (7, 2))
    given_to_trl = policy / lengths if name == "simpo" else policy
    stub = SimpleNamespace(
        alpha=0.0,
        beta=0.7,
        simpo_gamma=0.4,
        label_smoothing=0.0 if name == "simpo" else 0.2,
        loss_type="simpo" if name == "simpo" else "sigmoid",
        accelerator=_Accelerator(),
    )
    theirs, *_ = trainer.CPOTrainer.cpo_loss(stub, given_to_trl[:, 0], given_to_trl[:, 1])
    ours = losses.preference(
        settings(loss=name, beta=0.7, simpo_gamma=0.4, label_smoothing=0.2), policy, torch.zeros(7, 2), lengths
    )
    assert torch.allclose(ours, theirs)


def test_the_nll_of_the_chosen_branch_is_a_mean_a_pair_and_trl_s_a_mean_a_token() -> None:
    """TRL's `sft` term weights pairs by length; on pairs of one length both are the same."""
    torch.manual_seed(0)
    pairs, length = 5, 8
    token_logps, mask = -torch.rand(2 * pairs, length), torch.ones(2 * pairs, length, dtype=torch.long)
    theirs = trl_loss("sft", token_logps, mask, torch.zeros(pairs, 2), beta=0.1, label_smoothing=0.0)
    policy = token_logps.sum(1).view(2, pairs).T
    assert float(losses.chosen_nll(policy, torch.full((pairs, 2), length)).mean()) == pytest.approx(theirs, rel=1e-6)


@given(PAIR, PAIR, st.floats(0.01, 1))
def test_listwise_over_one_rejected_branch_is_dpo(
    policy: tuple[float, float], reference: tuple[float, float], beta: float
) -> None:
    got = [one(policy, reference, (3, 5), loss=name, beta=beta) for name in ("listwise", "sigmoid")]
    assert got[0] == pytest.approx(got[1], abs=1e-9)


@given(st.lists(st.tuples(LOGPS, LOGPS), min_size=2, max_size=6), st.floats(0.01, 1), st.integers(0, 3))
def test_listwise_is_the_chance_that_the_chosen_branch_comes_first(
    scores: list[tuple[float, float]], beta: float, absent: int
) -> None:
    """And branches a list does not have change nothing."""
    columns = zip(*scores, strict=True)
    policy, reference = (torch.tensor([column + (0.0,) * absent], dtype=torch.float64) for column in columns)
    lengths = torch.tensor([[4] * len(scores) + [0] * absent])
    odds = [math.exp(beta * (p - r - scores[0][0] + scores[0][1])) for p, r in scores]
    got = losses.preference(settings(loss="listwise", beta=beta), policy, reference, lengths)
    assert float(got[0]) == pytest.approx(math.log(sum(odds)), abs=1e-9)


def test_absent_branches_have_no_gradient() -> None:
    policy = torch.tensor([[-3.0, -4.0, 0.0]], requires_grad=True)
    losses.preference(
        settings(loss="listwise"), policy, torch.tensor([[-2.0, -1.0, 0.0]]), torch.tensor([[2, 2, 0]])
    ).sum().backward()
    assert policy.grad is not None
    assert policy.grad[0, 2] == 0
    assert float(policy.grad.sum()) == pytest.approx(0, abs=1e-7)
    assert policy.grad[0, 0] < 0 < policy.grad[0, 1]
