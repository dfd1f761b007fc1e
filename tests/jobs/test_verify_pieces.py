"""jobs.verify on files of many pieces: the same rows as in one piece, stopped and gone on, with flat memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import trace_files, verify

ROWS = [
    {"id": i, "reference": str(i), "text": f"#### {i if i % 3 else i + 1}", "outcome": "correct", "note": None}
    for i in range(50)
]


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_files, "PIECE", 7)


def grade(traces: Path, out: Path, *more: str) -> list[dict[str, Any]]:
    assert verify.main(["--traces", str(traces), "--out", str(out), *more]) == 0
    assert not out.with_name(out.name + ".parts").exists()
    rows = pq.read_table(out).to_pylist() if out.suffix == ".parquet" else map(json.loads, out.read_text().splitlines())
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_many_pieces_are_as_one(jsonl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    whole = grade(jsonl, tmp_path / f"whole{suffix}")
    monkeypatch.setattr(trace_files, "PIECE", 7)
    assert grade(jsonl, tmp_path / f"pieces{suffix}") == whole
    assert [row["outcome"] for row in whole] == ["correct" if i % 3 else "incorrect" for i in range(50)]


def test_parquet_files_of_a_folder_in_order(small: None, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for index, start in enumerate(range(0, 50, 20)):
        rows = [dict(row) for row in ROWS[start : start + 20]]
        if index == 1:
            for row in rows:
                del row["note"]  # a column that one file lacks
        pq.write_table(pa.Table.from_pylist(rows), folder / f"part-{index:05d}.parquet")
    rows = grade(folder, tmp_path / "out.parquet")
    assert [row["id"] for row in rows] == list(range(50)) and {row["note"] for row in rows} == {None}


def test_a_stopped_grading_goes_on(
    small: None, jsonl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    judged: list[int] = []
    judge, out = verify.judged, tmp_path / "out.jsonl"

    def stop_at_four(batch: Any, *columns: Any) -> Any:
        if len(judged) == 4:
            raise KeyboardInterrupt
        judged.append(len(batch["text"]))
        return judge(batch, *columns)

    monkeypatch.setattr(verify, "judged", stop_at_four)
    with pytest.raises(KeyboardInterrupt):
        grade(jsonl, out)
    assert not out.exists() and judged == [7, 7, 7, 7]
    monkeypatch.setattr(verify, "judged", lambda *a: judged.append(len(a[0]["text"])) or judge(*a))
    rows = grade(jsonl, out)
    assert judged == [7] * 7 + [1]  # the first four pieces were not judged again
    assert rows == grade(jsonl, tmp_path / "undisturbed.jsonl")
    said = capsys.readouterr().out
    assert "28 of them judged before a stop" in said
    assert "changed: 17 of 50" in said and "row 48: correct -> incorrect" not in said  # ten rows are shown


def test_parts_of_another_grading_are_not_taken(
    small: None, jsonl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_arguments: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(verify, "judged", stop)
        grade(jsonl, tmp_path / "out.jsonl")
    jsonl.write_text(jsonl.read_text() + json.dumps(ROWS[0]) + "\n")
    assert verify.main(["--traces", str(jsonl), "--out", str(tmp_path / "out.jsonl")]) == 2
    assert "another grading (other traces); delete it" in capsys.readouterr().err


def test_types_that_do_not_agree_are_an_error(small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.jsonl"
    rows = [{"reference": "1", "text": "1", "x": 1}] * 8 + [{"reference": "1", "text": "1", "x": "one"}] * 8
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert verify.main(["--traces", str(path), "--out", str(tmp_path / "out.jsonl")]) == 2
    assert "do not agree on the type of a column" in capsys.readouterr().err


def test_a_later_piece_may_bring_columns_and_wider_types(small: None, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    rows: list[dict[str, Any]] = [{"reference": "1", "text": "1", "x": 1} for _ in range(8)]
    rows += [{"reference": "1", "text": "1", "x": 0.5, "y": "late"} for _ in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = grade(path, tmp_path / "out.parquet")
    assert [row["x"] for row in found] == [1.0] * 8 + [0.5] * 8
    assert [row["y"] for row in found] == [None] * 8 + ["late"] * 8


def test_no_row_at_all(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"reference": pa.array([], pa.string()), "text": pa.array([], pa.string())}), path)
    assert grade(path, tmp_path / "out.parquet") == []


@pytest.mark.slow
def test_actors_give_the_same(
    small: None, ray_local: str, jsonl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert grade(jsonl, tmp_path / "ray.jsonl", "--actors", "2") == grade(jsonl, tmp_path / "alone.jsonl")
