"""The grade-school world: seeds, splits, the teacher, the oracle, the tokenizer and the shipped model folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import UserError
from app.problems import world_text
from app.problems.world import CAREFUL, LARGEST, SPLITS, Event, Story, Teacher, World, make_problems
from app.records import Problem
from benchmarks.world_oracle import first_wrong_line
from tests.teacher import teacher_solution

MODEL = Path(__file__).parents[2] / "app" / "problems" / "world_model"
HASTY = Teacher(careful=0.0, merge=(0.1, 0.5, 0.4))
problems = st.builds(
    lambda seed, index, low, more, noise: World((low, low + more), (0, noise)).problem(seed, index, HASTY),
    st.integers(0, 5), st.integers(0, 10_000), st.integers(1, 6), st.integers(0, 2), st.integers(0, 3),
)  # fmt: skip


def problem_of(start: int, *events: tuple[str, int]) -> Problem:
    story = Story(start, tuple(Event(op, n) for op, n in events))
    meta = json.dumps({"start": start, "events": story.as_lists()})
    return Problem("p", "unused", str(story.totals[-1]), "test", "world", None, meta)


# -- stories ----------------------------------------------------------------------------------------------------------


@given(problems)
def test_totals_stay_in_range_and_the_last_is_the_answer(problem: Problem) -> None:
    totals = Story.of(problem).totals
    assert all(1 <= total <= LARGEST for total in totals)
    assert str(totals[-1]) == problem.answer
    assert problem.split == Story.of(problem).split


@given(problems)
def test_the_statement_holds_the_story_and_its_distractors_only(problem: Problem) -> None:
    numbers = [int(n) for n in world_text.re.findall(r"\d+", problem.statement)]
    story = Story.of(problem)
    told = [story.start] + [e.amount for e in story.events if e.op in "+-"]
    remaining = iter(numbers)
    assert all(n in remaining for n in told)  # in this order
    assert len(numbers) - len(told) <= 3


@given(st.integers(0, 9), st.integers(0, 999))
def test_a_seed_and_an_index_are_one_problem(seed: int, index: int) -> None:
    assert World().problem(seed, index) == World().problem(seed, index)
    assert World().problem(seed, index).id != World().problem(seed, index + 1).id


def test_splits_share_no_story_and_each_has_its_share() -> None:
    drawn = {split: make_problems(7, 300, split, World(operations=(1, 2))) for split in SPLITS}
    stories = {split: {p.meta for p in made} for split, made in drawn.items()}
    for split, made in drawn.items():
        assert {p.split for p in made} == {split}
        assert len(stories[split]) == len({p.id for p in made}) == 300  # none twice
    assert not stories["train"] & stories["validation"] and not stories["train"] & stories["test"]
    assert not stories["validation"] & stories["test"]
    streamed = [World().problem(1, k).split for k in range(2000)]
    assert 0.75 < streamed.count("train") / 2000 < 0.85


def test_more_problems_begin_with_the_same_ones() -> None:
    assert make_problems(3, 20, "validation")[:5] == make_problems(3, 5, "validation")


def test_levels_are_kept() -> None:
    for problem in make_problems(1, 50, "train", World(operations=(2, 3), distractors=(1, 1))):
        assert 2 <= len(Story.of(problem).events) <= 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: World(operations=(3, 2)),
        lambda: World(operations=(0, 2)),
        lambda: World(distractors=(-1, 2)),
        lambda: World(amounts=(2, 80)),
        lambda: Teacher(careful=1.5),
        lambda: Teacher(merge=(0, 0, 0)),
        lambda: make_problems(0, 1, "dev"),
        lambda: make_problems(0, 500, "test", World(operations=(1, 1), amounts=(2, 2))),
        lambda: Story.of(Problem("p", "s", "1", "test", "gsm8k")),
    ],
)
def test_bad_settings_are_one_clear_error(make) -> None:
    with pytest.raises(UserError):
        make()


# -- teacher ----------------------------------------------------------------------------------------------------------


@given(problems, st.integers(0, 1000))
def test_the_teacher_is_always_right(problem: Problem, seed: int) -> None:
    for teacher in (CAREFUL, HASTY, Teacher()):
        solution = teacher_solution(problem, seed, teacher)
        assert first_wrong_line(problem, solution) is None
        assert solution.endswith(f"#### {problem.answer}")
        assert solution == teacher_solution(problem, seed, teacher)


@given(problems)
def test_a_careful_teacher_writes_one_operation_a_line(problem: Problem) -> None:
    assert len(teacher_solution(problem, 0, CAREFUL).split("\n")) == len(Story.of(problem).events) + 1


def test_merge_weights_are_the_sizes_of_lines() -> None:
    made = make_problems(0, 200, "train", World(operations=(6, 6)), Teacher(0.0, (0.0, 1.0, 0.0)))
    sizes = [line.count(" ") // 2 - 1 for p in made for line in str(p.solution).split("\n")[:-1]]
    assert set(sizes) == {1, 2}  # 1 where a multiplication would have come second
    assert sizes.count(2) > sizes.count(1)


# -- oracle -----------------------------------------------------------------------------------------------------------

STORY = problem_of(12, ("+", 7), ("-", 4), ("*", 2), ("-", 10))


@pytest.mark.parametrize(
    ("trace", "wrong"),
    [
        ("12 + 7 = 19\n19 - 4 = 15\n15 * 2 = 30\n30 - 10 = 20\n#### 20", None),
        ("12 + 7 - 4 = 15\n15 * 2 - 10 = 20\n#### 20", None),
        ("12 - 4 = 8\n8 + 7 = 15\n15 * 2 = 30\n30 - 10 = 20\n#### 20", None),  # order does not matter there
        ("12 + 7 = 18\n18 - 4 = 14\n14 * 2 = 28\n28 - 10 = 18\n#### 18", 0),  # slip
        ("12 + 7 = 19\n19 - 4 = 15\n15 * 2 = 32\n32 - 10 = 22\n#### 22", 2),  # slip
        ("12 - 4 = 8\n8 * 2 = 16\n16 - 10 = 6\n#### 6", 0),  # skipped + 7, never made up for
        ("12 + 7 = 19\n19 * 2 = 38\n38 - 4 = 34\n34 - 10 = 24\n#### 24", 1),  # doubled too early
        ("12 + 7 = 19\n19 - 4 = 15\n15 - 10 = 5\n5 * 2 = 10\n#### 10", 2),
        ("12 + 7 = 19\n19 + 9 = 28\n28 - 4 = 24\n#### 24", 1),  # a distractor's number
        ("12 + 7 = 19\n18 - 4 = 14\n14 * 2 = 28\n#### 28", 1),  # wrong first operand
        ("12 + 7 = 19\n19 - 4 = 15\n15 * 2 = 30\n#### 30", 3),  # answered too early
        ("12 + 7 = 19\n19 - 4 = 15\n15 * 2 = 30\n30 - 10 = 20\n#### 21", 4),
        ("12 + 7 = 19\n19 - 4 = 15\n15 * 2 = 30\n30 - 10 = 20", 4),  # no answer
        ("12 + 7 = 19\n19 - 4 = 15\n15 * 2 = 30\n30 - 10 = 20\n#### 20\n#### 20", 4),  # goes on after the answer
        ("12 + 7 = 19\n19 - 4 =\n15 * 2 = 30", 1),  # not an equation
        ("12 + 7 - 4 * 2 - 10 = 20\n#### 20", 0),  # precedence
        ("12 / 0 = 20\n#### 20", 0),
        ("", 0),
    ],
)
def test_the_oracle_names_the_first_wrong_line(trace: str, wrong: int | None) -> None:
    assert first_wrong_line(STORY, trace) == wrong


def test_a_skip_is_blamed_on_the_line_that_skipped() -> None:
    problem = problem_of(20, ("+", 3), ("+", 5), ("-", 2))
    assert first_wrong_line(problem, "20 + 5 = 25\n25 - 2 = 23\n#### 23") == 0
    assert first_wrong_line(problem, "20 + 3 = 23\n23 - 2 = 21\n#### 21") == 1
    assert first_wrong_line(problem, "20 + 5 = 25\n25 - 2 = 23\n23 + 3 = 26\n#### 26") is None


@given(problems, st.data())
def test_one_changed_result_is_the_first_wrong_line(problem: Problem, data: st.DataObject) -> None:
    lines = str(problem.solution).split("\n")
    spot = data.draw(st.integers(0, len(lines) - 1))
    words = lines[spot].split(" ")
    words[-1] = str(int(words[-1]) + data.draw(st.integers(1, 5)))
    assert first_wrong_line(problem, "\n".join([*lines[:spot], " ".join(words), *lines[spot + 1 :]])) == spot


# -- tokenizer and model folder ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL)


@given(problems)
def test_pieces_are_known_and_concatenate_to_the_text(problem: Problem) -> None:
    whole = f"{problem.statement}\n{problem.solution}"
    assert "".join(world_text.pieces(whole)) == whole
    assert set(world_text.pieces(whole)) <= VOCABULARY


VOCABULARY = set(world_text.vocabulary())


@settings(max_examples=60)
@given(problem=problems)
def test_decoding_undoes_encoding_whole_and_token_by_token(tokenizer, problem: Problem) -> None:
    whole = f"{problem.statement}\n{problem.solution}"
    tokens = tokenizer.encode(whole)
    assert tokenizer.unk_token_id not in tokens
    assert len(tokens) == len(world_text.pieces(whole))
    assert tokenizer.decode(tokens) == whole
    assert "".join(tokenizer.decode([token]) for token in tokens) == whole
    prompt = tokenizer.encode(problem.statement + "\n")
    assert prompt + tokenizer.encode(problem.solution) == tokens  # a prompt's end is a token's end


@given(problem=problems)
def test_incremental_decoding_gives_the_same_text(tokenizer, problem: Problem) -> None:
    from tokenizers.decoders import DecodeStream

    stream = DecodeStream(skip_special_tokens=True)
    chunks = [stream.step(tokenizer.backend_tokenizer, token) for token in tokenizer.encode(str(problem.solution))]
    assert "".join(chunk or "" for chunk in chunks) == problem.solution


def test_a_number_is_one_token_wherever_it_stands(tokenizer) -> None:
    seven = tokenizer.convert_tokens_to_ids("7")
    for text in ("She buys 7 more.", "7 + 7 = 14\n#### 7", "12 - 7 = 5\n7 * 2 = 14"):
        assert tokenizer.encode(text).count(seven) == text.replace("\n", " ").split(" ").count("7")


def test_what_the_world_cannot_write_is_unknown_not_dropped(tokenizer) -> None:
    assert tokenizer.unk_token_id in tokenizer.encode("Maya has 12 dragons.")
    assert tokenizer.unk_token_id in tokenizer.encode("123 + 4 = 127")


def test_the_shipped_folder_is_small_and_loads(tokenizer) -> None:
    from transformers import AutoModelForCausalLM

    assert (MODEL / "model.safetensors").stat().st_size < 3_000_000
    model = AutoModelForCausalLM.from_pretrained(MODEL)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert model.config.max_position_embeddings >= 256


def test_the_recipe_builds_the_shipped_tokenizer(tokenizer) -> None:
    from jobs.pretrain_world import build_tokenizer

    assert build_tokenizer().get_vocab() == tokenizer.get_vocab()
