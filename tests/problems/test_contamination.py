"""What counts as a repeat of an evaluation problem: planted repeats by kind, and problems that are none."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.problems.contamination import EvaluationIndex, GramIndex
from app.problems.settings import DecontaminationSettings
from benchmarks.planted import KINDS

EVALUATION = [
    "The bakery on the corner sells 48 rolls every morning and half as many in the afternoon. On Sunday, Hanna buys "
    "6 of the rolls that were left over. How many rolls did the bakery sell in the whole week before Hanna came by?",
    "A ferry carries 35 cars on each crossing and makes 4 crossings before noon. After lunch, Captain Ines lets only "
    "20 cars on board because of the wind. If it crosses 3 more times, how many cars does the ferry carry that day?",
    "In the school garden, Pavel plants 12 rows of carrots with 15 carrots in each row. Rabbits eat a third of all "
    "the carrots during the night. The next day, Pavel plants 10 more rows. How many carrots are in the garden then?",
    "A printer needs 3 minutes to warm up and then prints 14 pages a minute. For the meeting, Ruth wants 5 copies of "
    "a report that has 28 pages. How many minutes pass until the last copy that Ruth wants is printed?",
    "Two hikers start from the same hut at sunrise. The first hiker walks north at 4 kilometers an hour and the "
    "second, Emeka, walks south at 5 kilometers an hour. After 3 hours, how far apart are the first hiker and Emeka?",
    "A water tank holds 900 liters when it is full. A pipe fills it with 25 liters a minute while a leak at the "
    "bottom loses 10 liters a minute. Starting from empty, Mrs. Okafor waits by the tank. After how many minutes is "
    "it full?",
]
OTHERS = [
    "A baker makes 30 loaves in the morning and twice as many in the evening. How many loaves does the baker make in "
    "a week?",
    "A bus carries 40 people on each trip and makes 6 trips a day. How many people does the bus carry in 5 days?",
    "Lena plants 8 rows of tulips with 9 tulips in each row. How many tulips are in the garden then?",
    "How many minutes does a copier need for 300 pages if it prints 20 pages a minute?",
    "Two trains start from the same station and travel in opposite directions at 80 and 95 kilometers an hour. After "
    "2 hours, how far apart are they?",
    "A bath holds 160 liters when it is full. After how many minutes is it full at 8 liters a minute?",
]


def index(**settings: object) -> EvaluationIndex:
    made = EvaluationIndex(DecontaminationSettings.model_validate(settings), 0.8)
    made.add("test", EVALUATION)
    return made


def recall(made: EvaluationIndex, kind: str) -> float:
    rng = random.Random(0)
    planted = [(place, KINDS[kind](text, rng)) for place, text in enumerate(EVALUATION)]
    found = [(hit := made.match(text)) is not None and hit.place == place for place, text in planted if text]
    assert len(found) >= 5
    return sum(found) / len(found)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "numbers" not in kind])
def test_planted_repeats_are_found(kind: str) -> None:
    assert recall(index(), kind) == 1


def test_changed_numbers_are_found_where_numbers_are_masked() -> None:
    for kind in ("numbers changed", "names and numbers changed"):
        assert recall(index(mask_numbers=True), kind) == 1
    dense = (
        "Nora buys 3 pens at 2 dollars each, 5 books at 7 dollars each and 4 bags at 9 dollars each. What does she pay?"
    )
    changed = KINDS["numbers changed"](dense, random.Random(0))
    assert changed
    for masked in (False, True):
        made = index(mask_numbers=masked, ngrams={8: 0.5})
        made.add("dense", [dense])
        assert (made.match(changed) is not None) == masked


@pytest.mark.parametrize("masked", [False, True])
def test_problems_that_are_alike_in_kind_only_are_none(masked: bool) -> None:
    made = index(mask_numbers=masked)
    assert [made.match(text) for text in OTHERS] == [None] * len(OTHERS)


def test_the_strongest_word_for_it_is_told() -> None:
    made = index()
    text = EVALUATION[1]
    assert made.match(text.lower()) == made.match(text)
    kinds = [text, text + " Give a number.", text[: len(text) * 2 // 3] + "?", text[: len(text) * 2 // 5]]
    assert [hit and hit.kind for hit in map(made.match, kinds)] == ["exact", "near duplicate", "12-gram", "12-gram"]
    eight = index(ngrams={8: 0.5})
    assert (hit := eight.match(kinds[2])) and hit.kind == "8-gram" and 0.5 <= hit.coverage < 1


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=30), st.lists(st.sampled_from("abcde"), max_size=30))
def test_coverage_is_the_share_of_words_in_shared_grams(listed: list[str], text: list[str]) -> None:
    made = GramIndex(3, 0.01)
    made.add(7, listed)
    grams = {tuple(text[i : i + 3]) for i in range(len(text) - 2)}
    covered = {j for i in range(len(listed) - 2) if tuple(listed[i : i + 3]) in grams for j in range(i, i + 3)}
    found = made.match(text)
    assert found == ((len(covered) / len(listed), 7) if covered else None)


def test_a_repeat_in_two_lists_is_told_of_the_first() -> None:
    made = index()
    made.add("again", EVALUATION)
    hit = made.match(EVALUATION[0])
    assert hit and made.texts[hit.place][0] == "test"
