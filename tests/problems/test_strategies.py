"""Ways to write: what each asks, by which weights they are mixed, what they draw from."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from app.errors import UserError
from app.problems.concepts import Concepts, concepts_prompt, read_concepts
from app.problems.prompts import filled, lines
from app.problems.strategies import (
    FAIL_RATES,
    STRATEGIES,
    Material,
    Strategy,
    chosen,
    cumulated,
    find,
    needs,
    register,
)
from app.records import Problem

SEEDS = [Problem(f"p{i}", f"Seed {i} with a brace {{rules}} in it?", str(i), "train", "x") for i in range(9)]
IDEAS = Concepts([("ratios", "percentages"), ("ratios", "rates"), ("areas", "rates")])
MATERIAL = Material(SEEDS, 3, "a number", IDEAS, cumulated([0.0] * 8 + [1.0]))


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_asks_for_one_problem_with_all_fields_filled(name: str) -> None:
    text = find(name).ask(MATERIAL, random.Random(0))
    assert text and "Seed " in text
    assert "exactly one answer, a number" in text
    assert "{rules} in it" in text  # a seed's own braces stay
    for mark in ("{examples}", "{kind}", "{answer}", "{first}", "{second}", "{persona}", "{change}"):
        assert mark not in text
    assert text == find(name).ask(MATERIAL, random.Random(0))


def test_strategies_are_mixed_by_weight_and_fixed_by_the_attempt() -> None:
    weights = {"similar": 3.0, "harder": 1.0, "persona": 0.0}
    drawn = Counter(chosen(weights, number, 7)[0].name for number in range(2000))
    assert set(drawn) == {"similar", "harder"}
    assert 0.7 < drawn["similar"] / 2000 < 0.8
    assert [chosen(weights, n, 7)[0].name for n in range(20)] == [chosen(weights, n, 7)[0].name for n in range(20)]


def test_failures_are_drawn_in_proportion_to_the_fail_rate() -> None:
    material = Material(SEEDS, 1, failing=cumulated([0, 0.25, 0.75, 0, 0, 0, 0, 0, 0]))
    rng = random.Random(1)
    drawn = Counter(material.draw_failed(rng, 1)[0].id for _ in range(1000))
    assert set(drawn) == {"p1", "p2"}
    assert 0.7 < drawn["p2"] / 1000 < 0.8


def test_a_strategy_without_its_material_asks_nothing() -> None:
    bare = Material(SEEDS, 3)
    assert find("concept_pair").ask(bare, random.Random(0)) is None
    assert find("from_failures").ask(bare, random.Random(0)) is None
    assert find("from_failures").ask(Material(SEEDS, 3, failing=[0.0] * 9), random.Random(0)) is None
    assert needs({"from_failures": 1, "similar": 2, "concept_pair": 0}) == {FAIL_RATES}


def test_pairs_of_ideas_are_neighbours_or_neighbours_of_neighbours() -> None:
    pairs = {IDEAS.pair(random.Random(n)) for n in range(200)}
    assert all(pair and pair[0] != pair[1] for pair in pairs)
    assert ("percentages", "rates") in pairs  # of no single seed
    assert Concepts([("alone",)]).pair(random.Random(0)) is None


def test_ideas_are_read_from_a_list() -> None:
    said = "Sure:\n- Ratios of two quantities.\n* **areas**\n2) Rates\n- " + "word " * 9
    assert read_concepts(said) == ("ratios of two quantities", "areas", "rates")
    assert "What is {x}?" in concepts_prompt("What is {x}?")


def test_a_plugins_strategy_has_a_prompt_of_its_own(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{tmp_path}/mine.txt"
    with open(path, "w") as out:
        out.write("Mine. {rules} {word}")
    monkeypatch.setattr("app.problems.strategies.STRATEGIES", dict(STRATEGIES))
    register(Strategy("mine", path, lambda _m, _r: {"word": "{rules}"}))
    text = find("mine").ask(MATERIAL, random.Random(0))
    assert text and text.startswith("Mine. It must") and text.endswith("{rules}")
    with pytest.raises(UserError, match="there is one of that name"):
        register(Strategy("similar", path, lambda _m, _r: {}))
    with pytest.raises(UserError, match="no such strategy: did you mean 'similar'|no such strategy"):
        find("similr")


def test_fields_are_filled_once() -> None:
    assert filled("{a} {b} {a}", {"a": "{b}", "b": "x"}) == "{b} x {b}"
    assert len(set(lines("personas"))) == len(lines("personas")) >= 50
