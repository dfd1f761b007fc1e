"""The quotas' benchmark on few problems."""

from __future__ import annotations

import pytest

from benchmarks import quotas


def test_scripted_quotas_cost_fewer_tokens_than_all_samples() -> None:
    until, plain = quotas.scripted(8, lambda seed: 20 + seed % 5)
    assert 0 < until.tokens < plain.tokens and until.met <= plain.met


@pytest.mark.slow
def test_quotas_with_the_world_policy() -> None:
    """Tokens of aborted requests count: they were written."""
    until, plain = quotas.world(6)
    assert 0 < until.tokens < plain.tokens and until.met <= plain.met <= 6
