"""DPO and per-step DPO pairs, over traces written character by character."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.credit.problem import credit_problem
from app.credit.settings import CreditSettings
from app.datasets.pairs import Pit, Texts, dpo_pairs, pits, step_pairs
from app.datasets.settings import StepDpoSettings
from app.records import PreferencePair, StepValue, Trace, Verdict
from app.tokens import TokenText
from tests.credit.bernoulli import END, PROBLEM, PROMPT, Bernoulli, decode, ids, right, sampler, trace, verdict, wrong

TEXTS = Texts(TokenText(decode), END, "Q?")
WRONG = "one\ntwo\nbad\nrest\n#### 0"  # the third step is the pit
START, STOP = len("one\ntwo\n"), len("one\ntwo\nbad\n")


def value(step: int, q: float | None, pit: bool = False, of: str = "t-0", judged: int = 8) -> StepValue:
    ends = [0, 4, 8, 12, 17, 24]
    text = ["", "one\n", "two\n", "bad\n", "rest\n", "#### 0"]
    right_ones = round((q or 0) * judged)
    return StepValue(
        of, PROBLEM.id, step, ends[max(step - 1, 0)], ends[step], text[step], right_ones, judged, q, 0.0, 1.0, None, pit
    )


def pit(before: float = 0.75, after: float = 0.0, of: Trace | None = None) -> Pit:
    wrong_one = of or trace(WRONG, 0)
    return Pit(wrong_one, START, STOP, value(2, before, of=wrong_one.id), value(3, after, True, of=wrong_one.id))


def rollout(text: str, number: int = 0, outcome: str = "correct", finish: str = "stop", prefix: str = "one\ntwo\n"):
    made = replace(
        trace(text, number, finish, end=finish == "stop"),
        id=f"r-{number}-{len(prefix)}",
        prompt_token_ids=ids(PROMPT + prefix, end=False),
        prefix_tokens=len(prefix),
        parent="t-0",
    )
    return made, verdict(made, outcome)


def steps(rollouts=(), samples=(), found=None, seed: int = 0, **settings) -> list[PreferencePair]:
    return step_pairs(found or [pit()], samples, rollouts, StepDpoSettings(**settings), seed, TEXTS)


# -- per-step ---------------------------------------------------------------------------------------------------------


def test_a_correct_rollout_is_preferred_to_the_rest_of_the_wrong_trace() -> None:
    (made,) = steps([rollout("good\n#### 1")])
    assert made.prompt == "Q?one\ntwo\n" and made.prompt_token_ids == ids("Q?one\ntwo\n", end=False)
    assert (made.chosen, made.rejected) == ("good\n#### 1", "bad\nrest\n#### 0")
    assert made.chosen_token_ids == ids("good\n#### 1") and made.rejected_token_ids == ids("bad\nrest\n#### 0")
    assert made.prefix_tokens == START
    assert (made.q_before, made.q_after, made.judged_before, made.judged_after) == (0.75, 0.0, 8, 8)
    assert (made.chosen_trace, made.rejected_trace) == ("r-0-8", "t-0")


def test_a_pair_carries_raw_counts_and_whether_the_end_was_certain() -> None:
    best = replace(pit().before, q=0.999, correct=6)  # as the best of five would have it
    sampled, certain = pit().after, replace(pit().after, correct=0, judged=1, low=0.0, high=0.0)
    for after, exact in ((sampled, False), (certain, True)):
        (made,) = steps([rollout("good\n#### 1")], found=[replace(pit(), before=best, after=after)])
        assert (made.correct_before, made.judged_before, made.exact_after) == (6, 8, exact)
        assert (made.correct_after, made.judged_after) == (after.correct, after.judged)


def test_the_pit_step_alone_can_be_rejected() -> None:
    (made,) = steps([rollout("good\n#### 1")], rejected="step")
    assert made.rejected == "bad\n" and made.rejected_token_ids == ids("bad\n", end=False)


def test_the_branch_moves_to_the_first_difference() -> None:
    (made,) = steps([rollout("bat\n#### 1")])
    assert (made.prompt, made.chosen, made.rejected) == ("Q?one\ntwo\nba", "t\n#### 1", "d\nrest\n#### 0")
    assert made.prefix_tokens == START + 2


@pytest.mark.parametrize("rejected", ["step", "rest"])
def test_a_continuation_that_writes_the_pit_too_says_nothing(rejected: str) -> None:
    assert steps([rollout("bad\nyet right\n#### 1")], rejected=rejected) == []


def test_only_finished_correct_rollouts_of_that_very_prefix_are_chosen() -> None:
    assert steps([rollout("good\n#### 0", 0, "incorrect")]) == []
    assert steps([rollout("good\n#### 1", 0, "timeout")]) == []
    assert steps([rollout("good\n#### 1", 0, finish="length")]) == []
    assert steps([rollout("good\n#### 1", 0, prefix="one\n")]) == []
    assert steps([rollout("good\n#### 1", 0, prefix="one\ntwo\nbad\n")]) == []


def test_samples_that_begin_alike_serve_as_rollouts() -> None:
    sibling = trace("one\ntwo\nfine\n#### 1", 5)
    (made,) = steps(samples=[(sibling, verdict(sibling, "correct"))])
    assert (made.chosen, made.chosen_trace, made.prompt) == ("fine\n#### 1", "t-5", "Q?one\ntwo\n")
    other = trace("one\nelse\n#### 1", 6)
    assert steps(samples=[(other, verdict(other, "correct"))]) == []
    nothing_more = trace("one\ntwo\n", 7, end=False)
    assert steps(samples=[(nothing_more, verdict(nothing_more, "correct"))]) == []
    assert steps(samples=[(sibling, verdict(sibling, "incorrect"))]) == []


def test_shortest_or_drawn() -> None:
    pool = [rollout("good " * n + "\n#### 1", n) for n in (3, 1, 2)]
    assert steps(pool)[0].chosen_trace == "r-1-8"
    drawn = {steps(pool, chosen="first", seed=s)[0].chosen_trace for s in range(30)}
    assert drawn == {"r-1-8", "r-2-8", "r-3-8"}


def test_likeliest_is_what_was_drawn_most_often() -> None:
    pool = [rollout(text + "\n#### 1", n) for n, text in enumerate(["good", "fine", "fine", "well", "fine", "good"])]
    assert {steps(pool, chosen="likeliest", seed=s)[0].chosen for s in range(10)} == {"fine\n#### 1"}


def test_by_advantage_prefers_branches_that_end_right_more_often() -> None:
    """`good` ends right 1 of 4 times, `fine` always: the latter comes first, whatever the seed."""
    pool = [rollout("fine\n#### 1", n) for n in range(3)] + [rollout("good\n#### 1", 3)]
    pool += [rollout("good\n#### 0", n, "incorrect") for n in range(4, 7)]
    for seed in range(20):
        made = steps(pool, chosen="advantage", seed=seed, per_pit=2)
        assert [p.chosen for p in made] == ["fine\n#### 1", "good\n#### 1"]


def test_by_advantage_draws_in_proportion() -> None:
    """Base 3 of 6; `fine` 1 of 1 and `well` 2 of 3 (advantages 1/2 and 1/6): drawn first 3 times in 4."""
    pool = [rollout("fine\n#### 1", 0), rollout("well\n#### 1", 1), rollout("well\n#### 1", 2)]
    pool += [rollout("well\n#### 0", 3, "incorrect"), rollout("oh\n#### 0", 4, "incorrect")]
    pool += [rollout("no\n#### 0", 5, "incorrect")]
    first = [steps(pool, chosen="advantage", seed=s)[0].chosen for s in range(400)]
    assert first.count("fine\n#### 1") / 400 == pytest.approx(0.75, abs=0.08)


def test_rollouts_from_an_earlier_prefix_that_write_the_same_steps_serve_too() -> None:
    (made,) = steps([rollout("two\nfine\n#### 1", 0, prefix="one\n")])
    assert (made.prompt, made.chosen, made.chosen_trace) == ("Q?one\ntwo\n", "fine\n#### 1", "r-0-4")
    assert steps([rollout("other\nfine\n#### 1", 0, prefix="one\n")]) == []


def test_a_pair_says_where_it_comes_from() -> None:
    sure = pit()
    sure = replace(sure, after=replace(sure.after, confidence=0.9))
    (made,) = steps([rollout("good\n#### 1")], found=[sure])
    assert (made.step, made.confidence, made.problem_id) == (3, 0.9, PROBLEM.id)
    assert (made.chosen_trace, made.rejected_trace, made.judged_before) == ("r-0-8", "t-0", 8)


def test_several_pairs_a_pit_are_all_different() -> None:
    pool = [
        rollout("good\n#### 1", 0),
        rollout("good\n#### 1", 1),
        rollout("fine\n#### 1", 2),
        rollout("okay\n#### 1", 3),
    ]
    made = steps(pool, per_pit=4)
    assert sorted(p.chosen for p in made) == ["fine\n#### 1", "good\n#### 1", "okay\n#### 1"]
    assert len({p.id for p in made}) == 3
    assert len(steps(pool, per_pit=2)) == 2 and len(steps(pool, per_pit=4, per_problem=1)) == 1


def test_the_sharpest_falls_come_first() -> None:
    flat, sharp = trace(WRONG, 1), trace(WRONG.replace("rest", "tail"), 2)
    made = steps([rollout("good\n#### 1")], found=[pit(0.5, 0.25, flat), pit(1.0, 0.0, sharp)], per_problem=1)
    assert [p.rejected_trace for p in made] == ["t-2"]


def test_the_full_solution_reading_starts_at_the_bare_problem() -> None:
    sibling = trace("one\ntwo\nfine\n#### 1", 5)
    samples, rolled = [(sibling, verdict(sibling, "correct"))], [rollout("good\n#### 1")]
    (made,) = steps(rolled, samples, reading="full-solution", rejected="rest")
    assert (made.prompt, made.prefix_tokens, made.prompt_token_ids) == ("Q?", 0, ids("Q?", end=False))
    assert (made.chosen, made.rejected) == ("one\ntwo\nfine\n#### 1", "one\ntwo\nbad\n")
    assert made.chosen_trace == "t-5" and made.q_before == 0.75


def test_a_pit_in_the_first_step_has_no_shared_steps() -> None:
    first = Pit(trace(WRONG, 0), 0, 4, value(0, 0.5), value(1, 0.0, True))
    samples = [right(3)]
    (made,) = steps(samples=samples, found=[first])
    assert made.prefix_tokens == 0 and made.prompt == "Q?" and made.chosen == samples[0][0].text


@given(
    st.lists(st.tuples(st.text("ab\n", min_size=1, max_size=8), st.booleans()), max_size=6),
    st.integers(0, 3),
    st.data(),
)
def test_every_pair_is_sound(endings: list[tuple[str, bool]], seed: int, data: st.DataObject) -> None:
    rolled = [rollout(t, n, "correct" if good else "incorrect") for n, (t, good) in enumerate(endings)]
    how = {
        "rejected": data.draw(st.sampled_from(["step", "rest"])),
        "chosen": data.draw(st.sampled_from(["shortest", "first", "likeliest", "advantage"])),
        "per_pit": data.draw(st.integers(1, 3)),
    }
    made = steps(rolled, seed=seed, **how)
    shuffled = data.draw(st.permutations(rolled))
    assert steps(shuffled, seed=seed, **how) == made
    whole = {r.id: r for r, _ in rolled}
    assert len(made) <= how["per_pit"]
    for p in made:
        parent, chosen = trace(WRONG, 0), whole[p.chosen_trace]
        assert p.chosen_token_ids[:1] != p.rejected_token_ids[:1]
        assert p.chosen_token_ids and p.rejected_token_ids
        assert p.prompt_token_ids + p.chosen_token_ids == chosen.prompt_token_ids + chosen.token_ids
        joined = p.prompt_token_ids + p.rejected_token_ids
        cut = len(parent.token_ids) if how["rejected"] == "rest" else STOP
        assert joined == parent.prompt_token_ids + parent.token_ids[:cut]
        assert START <= p.prefix_tokens < STOP
        assert p.prompt + p.rejected == "Q?" + decode(parent.token_ids[:cut])
        assert p.prompt + p.chosen == decode(chosen.prompt_token_ids + chosen.token_ids)
    assert PreferencePair.from_table(PreferencePair.table(made)) == made


def test_the_rejected_branch_gets_the_end_token_the_engine_left_out() -> None:
    bare = trace(WRONG, 0, end=False)
    (made,) = steps([rollout("good\n#### 1")], found=[pit(of=bare)])
    assert made.rejected_token_ids[-1] == END == made.chosen_token_ids[-1]


# -- which pits -------------------------------------------------------------------------------------------------------


def test_pits_need_value_to_lose() -> None:
    wrong_one = trace(WRONG, 0)

    def chosen(before: float | None, after: float | None, floor: float = 0.25) -> list[Pit]:
        return pits([wrong_one], [value(2, before), value(3, after, True)], floor)

    assert [(p.start, p.end) for p in chosen(0.75, 0.0)] == [(START, STOP)]
    assert chosen(0.25, 0.0) and not chosen(0.125, 0.0) and chosen(0.125, 0.0, 0.0)
    assert not chosen(None, 0.0) and not chosen(0.5, 0.5)
    assert chosen(0.5, None)  # a pit found from the values around it, or by a wrong sum
    assert not pits([wrong_one], [value(3, 0.0, True)], 0.0)  # nothing known before
    assert not pits([wrong_one], [value(2, 0.5), value(3, 0.0)], 0.0)  # no pit
    assert not pits([], [value(2, 0.5), value(3, 0.0, True)], 0.0)  # a trace we do not have
    sure = [value(2, 0.5), replace(value(3, 0.0, True), confidence=0.8)]
    assert pits([wrong_one], sure, 0.0, 0.8) and not pits([wrong_one], sure, 0.0, 0.81)
    assert not pits([wrong_one], [value(2, 0.5), value(3, 0.0, True)], 0.0, 0.5)  # how sure is not known


def test_credit_and_pairs_fit_together() -> None:
    import asyncio

    samples = [wrong(6, 0), wrong(5, 1), right(2)]
    engine = Bernoulli([1, 1, 1, 0, 0, 0])
    credit = asyncio.run(
        credit_problem(PROBLEM, samples, sampler(engine), TEXTS.tokens, CreditSettings(), samples_are_rollouts=True)
    )
    found = pits([t for t, _ in samples], credit.values, 0.25)
    rolled = list(zip(credit.rollouts, credit.verdicts, strict=True))
    made = step_pairs(found, samples, rolled, StepDpoSettings(), 0, TEXTS)
    assert sorted(p.rejected_trace for p in made) == ["t-0", "t-1"]
    for p in made:
        assert p.chosen == "#### 1" and p.prompt.count("\n") == 2 and p.q_before == 1 and p.q_after == 0


# -- plain DPO --------------------------------------------------------------------------------------------------------

OUTCOMES = st.sampled_from(["correct", "incorrect", "unparsed", "timeout", "error"])
SAMPLES = st.lists(st.tuples(OUTCOMES, st.sampled_from(["stop", "length"]), st.integers(0, 5)), max_size=10)


def made_up(rows) -> list[tuple[Trace, Verdict]]:
    traces = [trace(f"{outcome} {kind}", i, finish) for i, (outcome, finish, kind) in enumerate(rows)]
    return [(t, verdict(t, outcome)) for t, (outcome, _, _) in zip(traces, rows, strict=True)]


@given(SAMPLES, st.integers(1, 8), st.integers(0, 5), st.data())
def test_dpo_pairs(rows, k: int, seed: int, data: st.DataObject) -> None:
    samples = made_up(rows)
    made = dpo_pairs(samples, k, seed, TEXTS)
    by_id = {t.id: (t, v) for t, v in samples}
    good = {tuple(t.token_ids) for t, v in samples if v.correct and t.finish_reason == "stop"}
    bad = {tuple(t.token_ids) for t, v in samples if v.judged and not v.correct and t.finish_reason == "stop"}
    assert len(made) == (min(k, max(len(good), len(bad))) if good and bad else 0)
    assert len({(p.chosen_trace, p.rejected_trace) for p in made}) == len({p.id for p in made}) == len(made)
    for p in made:
        (chosen, yes), (rejected, no) = by_id[p.chosen_trace], by_id[p.rejected_trace]
        assert yes.correct and no.judged and not no.correct
        assert chosen.finish_reason == rejected.finish_reason == "stop"
        assert p.chosen_token_ids == chosen.token_ids and p.rejected_token_ids == rejected.token_ids
        assert (p.prefix_tokens, p.q_before, p.judged_before, p.prompt) == (0, None, 0, "Q?")
    assert dpo_pairs(data.draw(st.permutations(samples)), k, seed, TEXTS) == made


def test_every_trace_gets_its_turn() -> None:
    samples = made_up([("correct", "stop", i) for i in range(3)] + [("incorrect", "stop", i) for i in range(5)])
    made = dpo_pairs(samples, 5, 0, TEXTS)
    assert len({p.rejected_trace for p in made}) == 5 and len({p.chosen_trace for p in made}) == 3
