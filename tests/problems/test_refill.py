"""How many attempts come next: until there are enough, within the budget."""

from __future__ import annotations

import pytest

from app.problems.refill import Spent, next_shards, shard_size
from app.problems.settings import SynthesisSettings

SETTINGS = SynthesisSettings.model_validate({"count": 320, "vote": {"solutions": 3}, "budget": {"attempts": 4}})


def with_budget(**budget: float) -> SynthesisSettings:
    return SynthesisSettings.model_validate(SETTINGS.model_dump() | {"budget": budget})


@pytest.mark.parametrize(
    ("spent", "shards"),
    [
        (Spent(), 10),
        (Spent(attempts=320, kept=160), 11),  # 160 more at half the yield, and a tenth to spare
        (Spent(attempts=672, kept=319), 1),
        (Spent(attempts=672, kept=320), 0),
        (Spent(attempts=320, kept=0), 30),  # all the budget leaves: nothing is known of the yield
        (Spent(attempts=1280, kept=300), 0),
    ],
)
def test_a_wave_follows_from_the_yield_so_far(spent: Spent, shards: int) -> None:
    assert next_shards(SETTINGS, spent)[0] == shards


def test_what_ended_it_is_told() -> None:
    assert next_shards(SETTINGS, Spent(attempts=1280, kept=300))[1] == "synthesis.budget.attempts is spent"
    assert next_shards(SETTINGS, Spent(attempts=320, kept=320))[1] == ""


def test_requests_are_never_above_the_budget() -> None:
    settings = with_budget(requests=1000)  # five an attempt at most, 160 a shard
    assert next_shards(settings, Spent())[0] == 6
    assert next_shards(settings, Spent(attempts=192, requests=700, kept=10))[0] == 1
    assert next_shards(settings, Spent(attempts=192, requests=900, kept=10)) == (
        0,
        "synthesis.budget.requests is spent",
    )


def test_tokens_are_known_after_a_pilot() -> None:
    settings = with_budget(tokens=100_000)
    assert next_shards(settings, Spent())[0] == 2
    assert next_shards(settings, Spent(attempts=64, tokens=32_000, kept=30))[0] == 4
    assert next_shards(settings, Spent(attempts=192, tokens=96_000, kept=90))[0] == 0


def test_a_small_count_has_small_shards() -> None:
    small = SynthesisSettings(count=5)
    assert (shard_size(small), next_shards(small, Spent())[0]) == (5, 1)
