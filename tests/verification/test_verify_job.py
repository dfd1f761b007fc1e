"""jobs.verify: JSONL and Parquet, grading again, errors that say what to do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs import verify

ROWS = [
    {"id": 1, "reference": "18", "text": "so \\boxed{18}"},
    {"id": 2, "reference": "18", "text": "The answer is 17."},
    {"id": 3, "reference": "\\frac12", "text": "#### 0.5"},
    {"id": 4, "reference": "5", "text": ""},
]


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    path = tmp_path / "traces.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in ROWS), encoding="utf-8")
    return path


def test_jsonl_in_parquet_out_keeps_order(traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "judged.parquet"
    assert verify.main(["--traces", str(traces), "--out", str(out)]) == 0
    rows = pq.read_table(out).to_pylist()
    assert [r["id"] for r in rows] == [1, 2, 3, 4]
    assert [r["outcome"] for r in rows] == ["correct", "incorrect", "correct", "unparsed"]
    assert "correct 2" in capsys.readouterr().out


def test_grading_again_prints_what_changed(traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    verify.main(["--traces", str(traces), "--out", str(first)])
    verify.main(["--traces", str(first), "--out", str(second)])
    assert "changed: 0 of 4" in capsys.readouterr().out
    first.write_text(first.read_text().replace('"incorrect"', '"correct"'), encoding="utf-8")
    verify.main(["--traces", str(first), "--out", str(second)])
    shown = capsys.readouterr().out
    assert "changed: 1 of 4" in shown
    assert "correct -> incorrect: 1" in shown
    assert [json.loads(line)["outcome"] for line in second.read_text().splitlines()][1] == "incorrect"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--traces", "missing.jsonl"], "no such file"),
        (["--text-column", "solution"], "no column 'solution'.*it has id, reference, text"),
        (["--out", "judged.csv"], "name a .jsonl or .parquet"),
    ],
)
def test_bad_input_names_itself(
    traces: Path, tmp_path: Path, change: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify.main(["--traces", str(traces), "--out", str(tmp_path / "o.jsonl"), *change]) == 2
    assert re.match(f"error: .*{message}", capsys.readouterr().err)


def test_a_broken_line_is_named(traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traces.write_text(traces.read_text() + "\n{broken", encoding="utf-8")
    assert verify.main(["--traces", str(traces), "--out", str(tmp_path / "o.jsonl")]) == 2
    assert "line 5: not JSON" in capsys.readouterr().err
