"""The belief over where a trace died."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.credit.changepoint import Change, entropy, fit

STEPS = st.integers(1, 12)
VALUES = st.floats(0.05, 0.95)


@st.composite
def beliefs(draw: st.DrawFn) -> Change:
    change = Change(draw(STEPS), draw(VALUES))
    for _ in range(draw(st.integers(0, 20))):
        start = draw(st.integers(0, change.steps - 1))
        change.add(start, draw(st.integers(start, change.steps - 1)), draw(st.booleans()))
    return change


@given(beliefs())
def test_the_posterior_is_a_distribution(change: Change) -> None:
    posterior = change.posterior()
    assert len(posterior) == change.steps and min(posterior) >= 0 and sum(posterior) == pytest.approx(1)


@given(STEPS, VALUES)
def test_nothing_seen_is_the_prior(steps: int, value: float) -> None:
    assert Change(steps, value).posterior() == pytest.approx([1 / steps] * steps)
    prior = [float(i) for i in range(steps)] if steps > 1 else [1.0]
    assert Change(steps, value, prior).posterior() == pytest.approx([w / sum(prior) for w in prior])


@given(beliefs())
def test_gain_is_never_negative(change: Change) -> None:
    posterior = change.posterior()
    assert all(change.gain(step, posterior) >= -1e-12 for step in range(1, change.steps))


@given(beliefs(), st.data())
def test_gain_is_the_expected_fall_of_entropy_about_alive_or_dead(change: Change, data: st.DataObject) -> None:
    """Mutual information is symmetric; told the other way round it is what one more rollout removes."""
    if change.steps < 2:
        return
    step = data.draw(st.integers(1, change.steps - 1))
    posterior = change.posterior()
    living = sum(posterior[step:])
    alive, dead = change._next(step, change.alive(step)), change._next(step, change.dead())
    right = living * alive + (1 - living) * dead
    after = right * entropy(living * alive / right) + (1 - right) * entropy(living * (1 - alive) / (1 - right))
    assert change.gain(step, posterior) == pytest.approx(entropy(living) - after, abs=1e-9)


@given(beliefs(), st.data())
def test_a_right_rollout_never_speaks_for_an_earlier_death(change: Change, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, change.steps - 1))
    fresh = Change(change.steps, change.value)
    before = fresh.posterior()
    fresh.add(step, step, True)
    assert sum(fresh.posterior()[step:]) >= sum(before[step:]) - 1e-12


@pytest.mark.parametrize("fall", range(1, 9))
def test_clear_evidence_finds_the_fall(fall: int) -> None:
    change = Change(8, 0.5)
    for step in range(8):
        for _ in range(4):
            change.add(step, step, step < fall)
    posterior = change.posterior()
    assert max(posterior) == posterior[fall - 1] > 0.9


def test_repeating_the_trace_to_its_end_speaks_for_death() -> None:
    """A dead prefix often repeats the trace word for word; that must not look like news of the last step only."""
    change = Change(8, 0.5)
    for _ in range(6):
        change.add(3, 7, False)
    assert sum(change.posterior()[:3]) > 0.85


def test_a_right_rollout_that_came_by_late_steps_clears_them() -> None:
    change = Change(8, 0.5)
    change.add(0, 5, True)
    assert sum(change.posterior()[5:]) > 0.8


def test_splitting_by_outcome_is_no_explanation() -> None:
    """Half right, half wrong after step 4, all wrong after 5: no reading may send the right ones to a dead trace."""
    change = Change(8, 0.3)
    for i in range(40):
        change.add(i % 5, 4, i % 2 == 0)
        change.add(5 + i % 3, 7, False)
    posterior = change.posterior()
    assert posterior[4] > 0.99


@given(st.integers(0, 12), st.integers(0, 12))
def test_fit_is_the_chain_of_predictions(right: int, wrong: int) -> None:
    a, b, product = 2.0, 3.0, 1.0
    for n in range(right):
        product *= (a + n) / (a + b + n)
    for n in range(wrong):
        product *= (b + n) / (a + b + right + n)
    from math import exp

    assert exp(fit((a, b), right, wrong)) == pytest.approx(product)


def test_belief_is_calibrated_on_traces_from_the_model_itself() -> None:
    """Where the model's assumptions hold, a change point believed with p is right about p of the time."""
    rng = random.Random(0)
    hits, belief, n = 0, 0.0, 600
    for _ in range(n):
        steps = rng.randint(2, 8)
        change = Change(steps, 0.4)
        fall = rng.randint(1, steps)
        q = [rng.betavariate(*(change.alive(s) if s < fall else change.dead())) for s in range(steps)]
        for _ in range(6):
            step = rng.randrange(steps)
            change.add(step, step, rng.random() < q[step])
        posterior = change.posterior()
        best = max(range(steps), key=posterior.__getitem__)
        hits, belief = hits + (best + 1 == fall), belief + posterior[best]
    assert hits / n == pytest.approx(belief / n, abs=0.05)  # 2.5 standard errors
