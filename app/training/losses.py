"""Losses from the summed log-probabilities of sequences; the loop divides their sum by the whole step's weight.

NLL trains SFT and RFT; with an example's weight exp(A / beta) it is advantage-weighted regression. DPO (2305.18290)
trains DPO and per-step DPO alike: for per-step DPO the prompt ends with the shared steps, so that the loss sees only
the continuation (2406.14532, section 6). KTO, BCE and W-REINFORCE take labelled examples, which need no partner. The
names in PreferenceSettings.loss follow TRL's, against which they and KTO are tested.
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from app.training.settings import PreferenceSettings


def per_sequence(logps: torch.Tensor, owners: torch.Tensor, sequences: int) -> torch.Tensor:
    """Sum token log-probabilities (T,) by the sequence that owns them: (sequences,) float32."""
    return torch.zeros(sequences, dtype=logps.dtype, device=logps.device).index_add(0, owners, logps)


def nll(logps: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted sum of negative log-probabilities; logps and weights (sequences,)."""
    return -(weights * logps).sum()


def margins(policy: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """log pi/ref of the chosen minus that of the (first) rejected; both (pairs, 2 or more) -> (pairs,)."""
    ratio = policy - reference
    return ratio[:, 0] - ratio[:, 1]


def preference(
    settings: PreferenceSettings, policy: torch.Tensor, reference: torch.Tensor, lengths: torch.Tensor
) -> torch.Tensor:
    """The loss of each pair, (pairs,). All inputs (pairs, 2), chosen first; lengths in tokens.

    For `listwise` there may be more rejected branches, (lists, 1 + rejected), with length 0 where a list has fewer.
    """
    beta, noise = settings.beta, settings.label_smoothing
    scaled = beta * margins(policy, reference)
    match settings.loss:
        case "sigmoid":
            return -logsigmoid(scaled)
        case "hinge":  # SLiC, 2305.10425
            return torch.relu(1 - scaled)
        case "ipo":  # 2310.12036, on means a token as its authors advise
            ratio = (policy - reference) / lengths
            return (ratio[:, 0] - ratio[:, 1] - 1 / (2 * beta)) ** 2
        case "cdpo":  # conservative DPO: labels are wrong with probability `noise`
            return -(1 - noise) * logsigmoid(scaled) - noise * logsigmoid(-scaled)
        case "robust":  # 2403.00409: unbiased under that noise
            return (-(1 - noise) * logsigmoid(scaled) + noise * logsigmoid(-scaled)) / (1 - 2 * noise)
        case "simpo":  # 2405.14734: no reference, means a token, a target margin
            mean = policy / lengths
            return -logsigmoid(beta * (mean[:, 0] - mean[:, 1]) - settings.simpo_gamma)
        case "listwise":  # 2406.09215: the chosen branch first of all (Plackett-Luce); with one rejected it is DPO
            scores = (beta * (policy - reference)).masked_fill(lengths == 0, float("-inf"))
            return -torch.log_softmax(scores, dim=1)[:, 0]
        case "dpop":  # 2402.13228: a penalty where the chosen branch fell below the reference
            fallen = torch.relu(reference[:, 0] - policy[:, 0])
            return -logsigmoid(scaled - beta * settings.dpop_lambda * fallen)


def kto(logits: torch.Tensor) -> torch.Tensor:
    """The loss of each example, (examples,), as its value function has it (Kahneman-Tversky, 2402.01306, eq. 7).

    Args:
        logits: beta (log pi/ref - z) of a right example, beta (z - log pi/ref) of a wrong one, with the reference point
            z = KL(pi, ref) of the step, at least 0, through which nothing is learnt.
    """
    return 1 - torch.sigmoid(logits)


def bce(logits: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of each example, (examples,), the implicit reward being the logit (SPoT-BCE, 2603.01683).

    Args:
        logits: beta log pi/ref of a right example, -beta log pi/ref of a wrong one.
    """
    return -logsigmoid(logits)


def reinforced(
    likelihood: torch.Tensor, right: torch.Tensor, weights: torch.Tensor, positive_weight: float
) -> torch.Tensor:
    """The objective of W-REINFORCE (2506.01347), token by token: weighted sum over examples.

    The paper samples from the policy it trains; here samples are given. So a token counts by its probability p, whose
    gradient p (1 - p) vanishes both where a wrong token is gone and where the policy is sure: -log(1 - p) would push
    most at what a wrong trace got right, log p without end.

    Args:
        likelihood: sums of the tokens' probabilities, (examples,).
    """
    return (weights * torch.where(right, -positive_weight, 1.0) * likelihood).sum()


NOISE = {"fp32": 1e-3, "bf16": 0.06}  # nats a token by which two passes of the same weights may differ


def astray(policy: torch.Tensor, reference: torch.Tensor, lengths: torch.Tensor, precision: str) -> float:
    """How many nats the worst branch is further from its reference than rounding explains; 0 where none is.

    All (pairs, branches). Errors of tokens are independent, so a branch of n tokens may be off by NOISE * (1 + sqrt n).
    """
    allowed = NOISE[precision] * (1 + lengths.sqrt())
    beyond = ((policy - reference).abs() - allowed).masked_fill(lengths == 0, 0.0)
    return max(0.0, float(beyond.max()))


def chosen_nll(policy: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Mean negative log-probability a token of the chosen branch (Iterative RPO, 2404.19733), (pairs,)."""
    return -policy[:, 0] / lengths[:, 0]
