"""Rows from files: what is read, and what each fault says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from app.errors import UserError
from app.graph import build
from app.problems.rows import BadRows
from app.problems.settings import FileSource, HubSource, ProblemsSettings
from app.problems.sources import from_files, from_hub, split_answer
from app.problems.stage import SKIPPED, load
from app.recipe import Recipe

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k"


def jsonl(path: Path, rows: list[Any]) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def rows(count: int, start: int = 0) -> list[dict[str, str]]:
    return [
        {"question": f"What is {i} + {i}?", "answer": f"{i}+{i}=<<{i}+{i}={2 * i}>>{2 * i}\n#### {2 * i}"}
        for i in range(start, start + count)
    ]


def source(tmp_path: Path, train: list[Any], **more: Any) -> FileSource:
    test = jsonl(tmp_path / "test.jsonl", rows(3, 1000))
    return FileSource(kind="file", train=jsonl(tmp_path / "train.jsonl", train), test=test, **more)


def test_gsm8k_rows_lose_calculator_marks_and_keep_the_answer(tmp_path: Path) -> None:
    problem = from_files(source(tmp_path, rows(2)))[1]
    assert (problem.statement, problem.answer, problem.solution) == ("What is 1 + 1?", "2", "1+1=2\n#### 2")
    assert (problem.split, problem.source) == ("train", "train.jsonl")


def test_parquet_reads_like_jsonl(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(rows(4)), tmp_path / "train.parquet")
    jsonl_source = source(tmp_path, rows(4))
    parquet = jsonl_source.model_copy(update={"train": str(tmp_path / "train.parquet")})
    assert [p.id for p in from_files(parquet)] == [p.id for p in from_files(jsonl_source)]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ('{"question": "a", ', "train.jsonl:3: not valid JSON"),
        ("[1, 2]", "train.jsonl:3: expected an object with fields, found list"),
        ({"question": "How many apples are left?"}, "train.jsonl:3: no field 'answer'"),
        ({"quesion": "x", "answer": "#### 1"}, "did you mean 'quesion'?"),
        (
            {"question": "How many?", "answer": "about twelve"},
            "train.jsonl:3: no answer: field 'answer' lacks a line '#### ANSWER'",
        ),
        ({"question": "", "answer": "#### 1"}, "train.jsonl:3: field 'question' must be text"),
        ({"question": None, "answer": "#### 1"}, "found None"),
        ({"question": "What is 0 + 0?", "answer": "#### 1"}, "with another answer, is there already at"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, bad: Any, says: str) -> None:
    with pytest.raises(UserError) as caught:
        from_files(source(tmp_path, [*rows(2), bad]))
    assert says in str(caught.value)


WAYS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    "json": lambda path, found: path.write_text("\n" + json.dumps(found, indent=1)) and None,
    "csv": lambda path, found: pacsv.write_csv(pa.Table.from_pylist(found), path),
    "parquet": lambda path, found: pq.write_table(pa.Table.from_pylist(found), path, row_group_size=2),
}


@pytest.mark.parametrize("ending", WAYS)
def test_every_format_reads_like_json_lines(ending: str, tmp_path: Path) -> None:
    found = [*rows(4), {"question": 'Say "7",\n(on two lines)?', "answer": "é\n#### 7"}]
    asked = source(tmp_path, found)
    WAYS[ending](tmp_path / f"train.{ending}", found)
    other = asked.model_copy(update={"train": str(tmp_path / f"train.{ending}")})
    assert [(p.id, p.answer, p.solution) for p in from_files(other)] == [
        (p.id, p.answer, p.solution) for p in from_files(asked)
    ]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "question,answer\nOne?,#### 1\nTwo?\n", r"a\.csv:3: 1 cells, but the first line names 2 columns"),
        ("a.csv", 'question,answer\nOne?,"#### 1\n', r"a\.csv: cannot be read: .*; give JSON lines, a JSON array"),
        ("a.csv", "question,anwser\nOne?,#### 1\n", r"a\.csv:2: no field 'answer' \(did you mean 'anwser'"),
        ("a.json", '[{"question": "One?", "answer": "#### 1"}, 3]', r"a\.json: row 1: expected an object"),
        ("a.json", '[{"question": "One?"},\n', r"a\.json:2: not valid JSON"),
        ("a.json", '{"question": "One?"}\n{"qu', r"a\.json:2: not valid JSON|a\.json:1: no field"),
        ("a.parquet", "no parquet", r"a\.parquet: cannot be read: "),
        ("a.jsonl", b"\xff\xfe", r"a\.jsonl: cannot be read: "),
    ],
)
def test_faults_of_every_format_are_named(name: str, text: str | bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    asked = source(tmp_path, rows(1)).model_copy(update={"train": str(tmp_path / name)})
    with pytest.raises(UserError, match=says):
        from_files(asked)


def test_bad_rows_are_skipped_counted_and_told(tmp_path: Path) -> None:
    bad = ['{"question": ', {"question": "No answer?"}, {"question": "What is 0 + 0?", "answer": "#### 1"}, "[1]"]
    asked = source(tmp_path, [*rows(2), *bad, *rows(2, 10)], on_bad_row="skip")
    said: list[str] = []
    problems, counts = load(ProblemsSettings(source=asked), 0, said.append)
    assert sum(p.split == "train" for p in problems) == 4
    assert counts == {"train": 4, "test": 3, SKIPPED: 4}
    assert said[0] == "4 rows skipped; the first are" and len(said) == 4
    assert [line.partition(": ")[0].rpartition(":")[2] for line in said[1:]] == ["3", "4", "5"]
    with pytest.raises(UserError, match=r"train\.jsonl:3: not valid JSON"):
        load(ProblemsSettings(source=asked.model_copy(update={"on_bad_row": "stop"})), 0)


def test_where_all_rows_are_bad_nothing_is_left_to_skip_to(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no train problems in it.* 2 bad rows were skipped, such as .*train\.jsonl:1"):
        from_files(source(tmp_path, [{}, {}], on_bad_row="skip"), BadRows(skip=True))


def test_a_solution_may_stand_apart_from_the_answer(tmp_path: Path) -> None:
    apart = {"answer_format": "plain", "solution_field": "steps"}
    train = [
        {"question": "1 + 1?", "answer": 2, "steps": "<<1+1=2>>2 it is."},
        {"question": "2?", "answer": 2, "steps": ""},
    ]
    problems = from_files(source(tmp_path, train, **apart))
    assert [(p.answer, p.solution) for p in problems if p.split == "train"] == [("2", "2 it is."), ("2", None)]
    assert {p.solution for p in problems if p.split == "test"} == {None}
    with pytest.raises(UserError, match=r"train\.jsonl:1: no field 'steps'"):
        from_files(source(tmp_path, rows(1), **apart))


def test_duplicate_ids_are_named_both(tmp_path: Path) -> None:
    twice = [{"id": "a", **rows(1)[0]}, {"id": "a", **rows(1, 5)[0]}]
    with pytest.raises(UserError, match=r"train.jsonl:2: id 'a' is there already at .*train.jsonl:1"):
        from_files(source(tmp_path, twice))


def test_an_exact_repeat_is_kept_once(tmp_path: Path) -> None:
    assert len([p for p in from_files(source(tmp_path, rows(2) + rows(2))) if p.split == "train"]) == 2


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no train problems in it"):
        from_files(source(tmp_path, []))


def test_other_fields_and_formats(tmp_path: Path) -> None:
    row = {"problem": "Solve.", "solution": r"So it is \boxed{\frac{1}{2}}."}
    test = jsonl(tmp_path / "t.jsonl", [row])
    other = FileSource(
        kind="file", train=test, test=test, question_field="problem", answer_field="solution", answer_format="boxed"
    )
    assert from_files(other)[0].answer == r"\frac{1}{2}"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{1} then \boxed{x^{2}}", "x^{2}"),
        (r"\boxed{", ""),
        ("none", ""),
        (r"\boxed{{a}{b}}", "{a}{b}"),
        (r"so \fbox{3}", "3"),
        (r"$x = \boxed 3$", "3"),
        (r"$x=\boxed{1}$ or $x=\boxed{2}$", r"1 \text{ or } 2"),
    ],
)
def test_a_boxed_answer_is_read_as_the_verifier_reads_it(text: str, answer: str) -> None:
    assert split_answer(text, "boxed") == (answer, text)


def test_plain_answers_have_no_solution() -> None:
    assert split_answer("42", "plain") == ("42", None)


def test_a_local_data_set_folder_loads_through_the_hub_code(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", rows(5))
    jsonl(tmp_path / "test.jsonl", rows(3, 50))
    problems = from_hub(HubSource(kind="hub", name=str(tmp_path)))
    assert [p.split for p in problems].count("train") == 5
    assert [p.answer for p in problems if p.split == "test"] == ["100", "102", "104"]


def test_a_missing_split_of_a_data_set_is_named(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", rows(5))
    with pytest.raises(UserError, match="cannot load split 'test'"):
        from_hub(HubSource(kind="hub", name=str(tmp_path)))


@pytest.mark.skipif(not GSM8K.is_dir(), reason="GSM8K is not beside the checkout")
def test_gsm8k_whole() -> None:
    both = FileSource(kind="file", train=str(GSM8K / "train.jsonl"), test=str(GSM8K / "test.jsonl"))
    problems = list(load(ProblemsSettings(source=both, validation=500), seed=0)[0])
    splits = [p.split for p in problems]
    assert (splits.count("train"), splits.count("validation"), splits.count("test")) == (6973, 500, 1319)
    assert len({p.id for p in problems}) == len(problems)


def test_settings_that_came_later_change_no_key_at_their_defaults(tmp_path: Path) -> None:
    asked = source(tmp_path, rows(2))

    def settings(**changes: Any) -> dict[str, Any]:
        problems = ProblemsSettings(source=asked.model_copy(update=changes))
        return build(Recipe(name="t", problems=problems))[0].settings["source"]

    assert not {"solution_field", "on_bad_row"} & settings().keys()
    assert settings(on_bad_row="skip")["on_bad_row"] == "skip"


def test_no_test_file_is_needed_where_problems_are_held_out(tmp_path: Path) -> None:
    train = jsonl(tmp_path / "train.jsonl", rows(10))
    for body in ({"kind": "file", "train": train}, {"kind": "hub", "name": str(tmp_path), "test_split": None}):
        problems = {"source": body, "validation": 3}
        held_out = Recipe.model_validate({"name": "t", "problems": problems, "evaluation": {"split": "validation"}})
        assert [stage.name for stage in build(held_out)] == ["problems", "evaluation/base", "report"]
        found, counts = load(held_out.problems, 0)
        assert counts == {"train": 7, "validation": 3} == Counter(problem.split for problem in found)
        with pytest.raises(UserError, match=r"no test problems; name some in problems\.source, or hold some out"):
            build(Recipe.model_validate({"name": "t", "problems": problems}))
