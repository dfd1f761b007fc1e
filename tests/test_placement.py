"""Pools of actors as a recipe asks for them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from app.placement import ActorPlacement
from app.sampling.settings import EnginePlacement
from app.shardmap import Pool
from app.training.settings import TrainPlacement

PLACEMENTS = (ActorPlacement, EnginePlacement, TrainPlacement)


@pytest.mark.parametrize("kind", PLACEMENTS)
@pytest.mark.parametrize("value", ["sampler", "!spot", "in(a, b)", "!in(a,b)", "g6e.xlarge"])
def test_labels_as_ray_takes_them(kind: type, value: str) -> None:
    assert kind(labels={"role": value}).labels == {"role": value}
    assert kind(labels={"ray.io/accelerator-type": value}).labels


@pytest.mark.parametrize("kind", PLACEMENTS)
@pytest.mark.parametrize(
    ("name", "value"), [("role", "in()"), ("role", "-x"), ("role", "a b"), ("ro le", "x"), ("", "x")]
)
def test_a_slip_in_a_label_is_an_error(kind: type, name: str, value: str) -> None:
    with pytest.raises(ValidationError, match="is no label: give a word"):
        kind(labels={name: value})


def test_what_is_valid_here_is_valid_in_ray() -> None:
    ray_rule = pytest.importorskip("ray._private.label_utils").LABEL_SELECTOR_REGEX
    for value in ("sampler", "!spot", "in(a, b)", "!in(a,b)", "a", "a.b_c-d"):
        assert ray_rule.match(value) and ActorPlacement(labels={"x": value})


def test_a_pool_grows_from_few_to_most_and_never_beyond_the_work() -> None:
    pool = Pool.of(ActorPlacement(actors=2, max_actors=6), "placement.verification")
    assert [(s.min_size, s.max_size, s.initial_size) for s in map(pool.strategy, (1, 3, 50))] == [
        (1, 1, 1),
        (2, 3, 2),
        (2, 6, 2),
    ]
    fixed = Pool.of(ActorPlacement(actors=4), "placement.verification").strategy(50)
    assert (fixed.min_size, fixed.max_size) == (4, 4)


def test_a_pool_that_would_shrink_is_an_error() -> None:
    with pytest.raises(ValidationError, match=r"max_actors: must be at least actors \(3\)"):
        ActorPlacement(actors=3, max_actors=2)
