"""Files of traces that others wrote: what their rows become, and what is said of a row that is not as it should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.errors import UserError
from app.given.traces import Columns, GivenTraces, read_traces
from tests.credit import student as world

RIGHT = {"prompt": "1 + 1?\n", "completion": "#### 2", "answer": "2"}
WRONG = {"prompt": "1 + 1?\n", "completion": "1 + 1 = 3\n#### 3", "answer": "2"}
OTHER = {"prompt": "2 + 2?\n", "completion": "#### 4", "answer": 4}


def read(folder: Path, *rows: Any) -> GivenTraces:
    file = folder / "t.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_traces(str(file), Columns())


def without(row: dict[str, Any], name: str, **more: Any) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name} | more


def test_rows_of_a_prompt_are_samples_of_one_problem(tmp_path: Path) -> None:
    found = read(tmp_path, RIGHT, WRONG, OTHER, WRONG)
    problems = {p.statement: p.answer for p in found.problems()}
    assert problems == {"1 + 1?\n": "2", "2 + 2?\n": "4"}
    places = {s.text: s.places for each in found.asked for s in each.samples.values()}
    assert [place.rpartition(":")[2] for place in places["1 + 1 = 3\n#### 3"]] == ["2", "4"]  # once, both rows named
    assert found.most == 2 and not found.judged


def test_parquet_says_the_same(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([RIGHT, WRONG]), tmp_path / "t.parquet")
    found, same = read_traces(str(tmp_path / "t.parquet"), Columns()), read(tmp_path, RIGHT, WRONG)
    assert [set(each.samples) for each in found.asked] == [set(each.samples) for each in same.asked]


def test_traces_carry_the_tokens_of_the_texts(tmp_path: Path) -> None:
    found = read(tmp_path, RIGHT, WRONG | {"finish_reason": "length"})
    renderer = world.renderer()
    right, cut = sorted(found.traces(slice(0, 9), renderer), key=lambda trace: trace.finish_reason, reverse=True)
    assert right.token_ids == renderer.completion_ids("#### 2") and right.token_ids[-1] == renderer.end_id
    assert cut.token_ids[-1] != renderer.end_id and renderer.decode(cut.token_ids) == WRONG["completion"]


def test_messages_are_rendered_by_the_template(tmp_path: Path) -> None:
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}]
    rows = [{"prompt": asked, "completion": [{"role": "assistant", "content": "#### 2"}], "answer": "2"}]
    found = read(tmp_path, *rows)
    assert (found.rendering.template, found.rendering.system) == ("chat", "Be brief.")
    assert found.problems()[0].statement == "1 + 1?"
    with pytest.raises(UserError, match=r"t.jsonl:2: a prompt of another form, .* than .*t.jsonl:1"):
        read(tmp_path, *rows, RIGHT)


def test_a_verdict_stands_for_judging_and_a_right_trace_for_the_reference(tmp_path: Path) -> None:
    right, wrong = without(RIGHT, "answer", correct=True), without(WRONG, "answer", correct=False)
    found = read(tmp_path, wrong, right)
    assert found.judged and found.problems()[0].answer == "2"
    assert sorted(v.outcome for v in found.verdicts(slice(0, 9))) == ["correct", "incorrect"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([RIGHT, without(WRONG, "completion", completions="x")], r":2: no column 'completion' \(did you mean 'comple"),
        ([RIGHT | {"prompt": 7}], r":1: column 'prompt' must be text, found 7"),
        ([RIGHT, WRONG | {"answer": "3"}], r":2: answer '3', but .*:1 has '2' for the same prompt"),
        ([without(WRONG, "answer")], r":1: no reference answer, and no right completion"),
        ([RIGHT | {"correct": True}, WRONG], r":2: no verdict, but .*:1 has one"),
        ([RIGHT | {"correct": "yes"}], r":1: column 'correct' must be true or false"),
        ([RIGHT | {"correct": True}, RIGHT | {"correct": False}], r":2: verdict incorrect, but .*:1 has correct"),
        ([RIGHT | {"finish_reason": "eos"}], r":1: column 'finish_reason' must be one of stop, length, abort"),
        ([RIGHT | {"prompt": [{"role": "assistant", "content": "x"}]}], r":1: .* expected one message of the user"),
        ([RIGHT | {"prompt": [{"text": "x"}]}], r":1: .* every message needs a role and a content"),
        ([], r"t.jsonl: no rows in it"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, rows: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(tmp_path, *rows)


def test_a_mistyped_file_is_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "traces.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"trace.jsonl: no such file \(did you mean 'traces.jsonl'\?\)"):
        read_traces(str(tmp_path / "trace.jsonl"), Columns())
