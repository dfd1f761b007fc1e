"""Problems from files and data sets: every row checked, faults named by file and line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from app.errors import UserError, nearest
from app.problems.settings import FileSource, HubSource
from app.records import Problem, digest
from app.verification.extract import boxed

CALCULATOR_MARK = re.compile(r"<<[^<>]*>>")


def from_files(source: FileSource) -> list[Problem]:
    """Problems of a file source; split validation only where a validation file is named."""
    out = []
    for split in ("train", "validation", "test"):
        path = getattr(source, split)
        if path:
            out += parse_rows(read_rows(path), source, split, Path(path).name)
    return out


def from_hub(source: HubSource) -> list[Problem]:
    """Problems of a Hugging Face data set, or of a local data set folder."""
    import datasets

    out = []
    for split in ("train", "validation", "test"):
        name = getattr(source, f"{split}_split")
        if name is None:
            continue
        try:
            rows = datasets.load_dataset(source.name, source.config, split=name, revision=source.revision)
        except (ValueError, OSError, datasets.exceptions.DatasetNotFoundError) as error:
            raise UserError(f"problems.source: cannot load split {name!r} of {source.name}: {error}") from error
        located = ((f"{source.name}[{name}] row {i}", dict(row)) for i, row in enumerate(rows))
        out += parse_rows(located, source, split, source.name)
    return out


def read_rows(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of a JSONL or Parquet file."""
    if path.endswith(".parquet"):
        for index, row in enumerate(pq.read_table(path).to_pylist()):
            yield f"{path}: row {index}", row
        return
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}:{number}: not valid JSON: {error}. Mend or remove this line") from None
            if not isinstance(row, dict):
                raise UserError(f"{path}:{number}: expected an object with fields, found {type(row).__name__}")
            yield f"{path}:{number}", row


def parse_rows(
    rows: Iterator[tuple[str, dict[str, Any]]], source: FileSource | HubSource, split: str, name: str
) -> list[Problem]:
    """Rows as problems. A repeated id, or one statement with two answers, is an error; an exact repeat is dropped."""
    problems: dict[str, Problem] = {}
    places: dict[str, str] = {}
    for place, row in rows:
        problem = parse_row(place, row, source, split, name)
        before = problems.get(problem.id)
        if before is None:
            problems[problem.id], places[problem.id] = problem, place
        elif "id" in row or before.answer != problem.answer:
            what = f"id {problem.id!r}" if "id" in row else "this statement, with another answer,"
            raise UserError(f"{place}: {what} is there already at {places[problem.id]}; keep one of the two")
    if not problems:
        raise UserError(f"{name}: no {split} problems in it; give a file with at least one row")
    return list(problems.values())


def parse_row(place: str, row: dict[str, Any], source: FileSource | HubSource, split: str, name: str) -> Problem:
    """One row as a Problem; its id is the row's own or follows from its statement."""
    statement = _text(place, row, source.question_field)
    answer_text = _text(place, row, source.answer_field)
    answer, solution = split_answer(answer_text, source.answer_format)
    if not answer:
        mark = {"gsm8k": "a line '#### ANSWER'", "boxed": "\\boxed{ANSWER}", "plain": "an answer"}[source.answer_format]
        raise UserError(f"{place}: no answer: field {source.answer_field!r} lacks {mark}")
    return Problem(
        id=str(row["id"]) if "id" in row else "p-" + digest(statement),
        statement=statement,
        answer=answer,
        split=split,
        source=name,
        solution=solution,
    )


def _text(place: str, row: dict[str, Any], field: str) -> str:
    if field not in row:
        raise UserError(f"{place}: no field {field!r}{nearest(field, row)}; set the field's name in problems.source")
    value = row[field]
    if not isinstance(value, str | int | float) or isinstance(value, bool) or not str(value).strip():
        raise UserError(f"{place}: field {field!r} must be text, found {value!r}")
    return str(value).strip()


def split_answer(text: str, answer_format: str) -> tuple[str, str | None]:
    """(final answer, solution or None) of an answer field; the answer is empty where the format's mark is missing.

    GSM8K's solutions lose their calculator marks `<<3*4=12>>` and keep the last line `#### 12`.
    """
    if answer_format == "plain":
        return text, None
    if answer_format == "boxed":
        return boxed(text) or "", text
    body, mark, answer = text.rpartition("####")
    if not mark:
        return "", None
    return answer.strip(), CALCULATOR_MARK.sub("", body).rstrip() + f"\n#### {answer.strip()}"
