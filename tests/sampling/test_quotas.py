"""What quotas save: fewer tokens for the same quotas, on problems of mixed difficulty."""

from __future__ import annotations

import pytest

from benchmarks import quotas
from benchmarks.sampling import length


@pytest.mark.parametrize("kind", ["fixed", "lognormal"])
def test_the_same_quotas_with_at_least_30_percent_fewer_tokens(kind: str) -> None:
    until, plain = quotas.scripted(60, lambda seed: length(kind, seed))
    assert until.met == plain.met > 40
    assert until.tokens <= 0.7 * plain.tokens


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_engine_saves_as_much() -> None:
    """Batches differ between the two ways, so a problem at the edge may meet its quotas in one of them only."""
    until, plain = quotas.world(24)
    assert plain.met >= 6
    assert abs(until.met - plain.met) <= 1
    assert until.tokens <= 0.7 * plain.tokens
