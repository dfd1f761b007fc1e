"""The GPU benchmark on a CPU: its parts through the code that GPUs run, and what becomes of a part that goes wrong."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu
from benchmarks.gpu_parts import process
from benchmarks.gpu_parts.case import Setup
from benchmarks.table import Row

SETUP = Setup("cpu", "a machine", 0, 0.0, 1e11, 1, True)


def measured(tmp_path: Path, parts: str, *more: str) -> list[dict[str, Any]]:
    """The rows of parts; the command must find nothing wrong."""
    file = tmp_path / "rows.json"
    status = gpu.main(["--quick", "--minutes", "10", "--parts", parts, "--json", str(file), *more])
    rows = json.loads(file.read_text())
    assert status == 0, rows
    return rows


def faults(seconds: float) -> list[Row]:
    said: list[Row] = []
    rows = process.run("tests.benchmarks.gpu_faults", SETUP, time.monotonic() + seconds, said.append)
    assert said == rows
    return rows


def test_a_case_that_goes_wrong_is_a_row_and_not_the_end() -> None:
    rows = faults(300)
    assert [(row.name, row.value, row.note) for row in rows] == [
        ("right", 2.0, ""),
        ("wrong 1", None, "failed: RuntimeError: the card is on fire put it out"),
        ("missing 2", None, "skipped: there is no second GPU"),
        ("killed 3", None, "failed: killed by SIGKILL: allocating"),
        ("hanging 4", None, rows[4].note),
        ("right", 2.0, ""),
    ]
    assert rows[4].note.startswith("failed: stopped after ")
    assert {row.machine for row in rows} == {"a machine"}
    assert rows[0].ratio == 2


def test_what_time_is_too_short_for_is_said() -> None:
    assert [row.note for row in faults(0)] == ["skipped: no time left"]


def test_a_part_that_does_not_start_is_a_row() -> None:
    rows = process.run("tests.benchmarks.no_such_part", SETUP, time.monotonic() + 100, lambda _: None)
    assert [row.name for row in rows] == ["no_such_part"]
    assert rows[0].note.startswith("failed: ended with status 1: ModuleNotFoundError")


def test_options_that_make_no_sense_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, said in (
        (["--parts", "equality,magic"], "there is no part 'magic'"),
        (["--minutes", "0"], "give a number above 0"),
        (["--workers", "0"], "give a number above 0"),
    ):
        with pytest.raises(SystemExit):
            gpu.main(argv)
        assert said in capsys.readouterr().err


def test_missing_packages_skip_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "setup_of", lambda *_: SETUP)
    monkeypatch.setattr(gpu, "PARTS", {"equality": gpu.Part(0.5, ("torch", "no_such_package"))})
    rows = measured(tmp_path, "equality")
    assert [row["note"] for row in rows] == ["skipped: not installed: no_such_package"]


def test_trees_packed_rows_and_single_sequences_are_found_equal(tmp_path: Path) -> None:
    rows = measured(tmp_path, "equality,start")
    equal = [row for row in rows if row["unit"] == "relative error"]
    assert len(equal) == 2 * 2 * 3 * 2  # precisions, families, shapes, ways
    assert all(row["value"] < 1e-5 for row in equal if row["name"].endswith("fp32"))
    assert {"tree attention"} == {row["name"].split(", ")[-1] for row in rows if row["name"].startswith("start-up")}


def test_a_wrong_mask_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every token sees all before it in its tree: other branches too."""
    from app.training import attention
    from benchmarks.gpu_parts import equality

    inner = attention.blocks
    monkeypatch.setattr(attention, "blocks", lambda ends: inner(ends * 0 + len(ends)))
    rows = equality.compare(SETUP, "tiny-llama", 8, 4, "fp32")
    assert [row.note[:7] for row in rows] == ["failed:"] * 2
    assert all(row.value and row.value > 1e-3 for row in rows)


@pytest.mark.slow
def test_flex_attention_runs_compiled_on_a_cpu() -> None:
    from benchmarks.gpu_parts import equality

    rows = equality.flex_values(SETUP)
    assert [row.note for row in rows] == [""]


def test_the_command_itself_loads_no_torch() -> None:
    import subprocess

    code = "import sys, benchmarks.gpu; print([m for m in ('torch', 'transformers', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
