"""Losses from per-token log-probabilities. Sums over a micro-batch; the loop divides by the whole step's weight.

NLL trains SFT and RFT. DPO (Rafailov 2305.18290) trains DPO and per-step DPO alike: for per-step DPO the prompt ends with the
shared steps, so that the loss sees the continuation only (Setlur 2406.14532, section 6). The optional NLL term on the
chosen branch is that of Iterative RPO (2404.19733), a mean over the branch's tokens.
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid


def per_sequence(logps: torch.Tensor, owners: torch.Tensor, sequences: int) -> torch.Tensor:
    """Sum token log-probabilities (T,) by the sequence that owns them: (sequences,) float32."""
    return torch.zeros(sequences, dtype=logps.dtype, device=logps.device).index_add(0, owners, logps)


def nll(logps: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted sum of negative log-probabilities; logps and weights (sequences,)."""
    return -(weights * logps).sum()


def margins(policy: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """log pi/ref of the chosen minus that of the rejected; both (pairs, 2) -> (pairs,)."""
    ratio = policy - reference
    return ratio[:, 0] - ratio[:, 1]


def dpo(margin: torch.Tensor, beta: float) -> torch.Tensor:
    """-log sigmoid(beta * margin), (pairs,). ln 2 where policy and reference agree."""
    return -logsigmoid(beta * margin)


def chosen_nll(policy: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Mean negative log-probability a token of the chosen branch, (pairs,); policy and lengths (pairs, 2)."""
    return -policy[:, 0] / lengths[:, 0]
