"""Problems from files and data sets: every row checked, faults named by file and line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.errors import UserError, nearest
from app.problems.rows import BadRows, Located, read_rows
from app.problems.settings import FileSource, HubSource
from app.records import Problem, digest
from app.verification.extract import boxed

CALCULATOR_MARK = re.compile(r"<<[^<>]*>>")


def from_files(source: FileSource, bad: BadRows | None = None) -> list[Problem]:
    """Problems of a file source; split validation only where a validation file is named.

    Args:
        bad: takes the faults of bad rows; None: the first is raised.
    """
    bad, out = bad or BadRows(skip=False), []
    for split in ("train", "validation", "test"):
        path = getattr(source, split)
        if path:
            out += parse_rows(read_rows(path, bad), source, split, Path(path).name, bad)
    return out


def from_hub(source: HubSource, bad: BadRows | None = None) -> list[Problem]:
    """Problems of a Hugging Face data set, or of a local data set folder; `bad` as for `from_files`."""
    import datasets

    bad, out = bad or BadRows(skip=False), []
    for split in ("train", "validation", "test"):
        name = getattr(source, f"{split}_split")
        if name is None:
            continue
        try:
            rows = datasets.load_dataset(source.name, source.config, split=name, revision=source.revision)
        except (ValueError, OSError, datasets.exceptions.DatasetNotFoundError) as error:
            raise UserError(f"problems.source: cannot load split {name!r} of {source.name}: {error}") from error
        located = ((f"{source.name}[{name}] row {i}", dict(row)) for i, row in enumerate(rows))
        out += parse_rows(located, source, split, source.name, bad)
    return out


def parse_rows(
    rows: Iterator[Located], source: FileSource | HubSource, split: str, name: str, bad: BadRows
) -> list[Problem]:
    """Rows as problems. A repeated id, or one statement with two answers, is a fault; an exact repeat is dropped."""
    problems: dict[str, Problem] = {}
    places: dict[str, str] = {}
    for place, row in rows:
        try:
            problem = parse_row(place, row, source, split, name)
            before = problems.get(problem.id)
            if before is not None and ("id" in row or before.answer != problem.answer):
                what = f"id {problem.id!r}" if "id" in row else "this statement, with another answer,"
                raise UserError(f"{place}: {what} is there already at {places[problem.id]}; keep one of the two")
        except UserError as fault:
            bad(fault)
            continue
        if before is None:
            problems[problem.id], places[problem.id] = problem, place
    if not problems:
        skipped = f"; {bad.count:,} bad rows were skipped, such as {bad.first[0]}" if bad.count else ""
        raise UserError(f"{name}: no {split} problems in it; give a file with at least one row{skipped}")
    return list(problems.values())


def parse_row(place: str, row: dict[str, Any], source: FileSource | HubSource, split: str, name: str) -> Problem:
    """One row as a Problem; its id is the row's own or follows from its statement."""
    statement = _text(place, row, source.question_field)
    answer_text = _text(place, row, source.answer_field)
    answer, solution = split_answer(answer_text, source.answer_format)
    if not answer:
        mark = {"gsm8k": "a line '#### ANSWER'", "boxed": "\\boxed{ANSWER}", "plain": "an answer"}[source.answer_format]
        raise UserError(f"{place}: no answer: field {source.answer_field!r} lacks {mark}")
    if source.solution_field:
        solution = _solution(place, row, source.solution_field, split)
    return Problem(
        id=str(row["id"]) if "id" in row else "p-" + digest(statement),
        statement=statement,
        answer=answer,
        split=split,
        source=name,
        solution=solution,
    )


def _solution(place: str, row: dict[str, Any], field: str, split: str) -> str | None:
    """A solution of its own column. It may be empty; for an evaluation problem the column may be missing."""
    if (field not in row and split != "train") or (field in row and row[field] in (None, "")):
        return None
    return CALCULATOR_MARK.sub("", _text(place, row, field))


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
