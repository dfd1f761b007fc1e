"""`jobs.check`: damage is named, and what was removed is made again."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from app.store import Output
from jobs.check import main


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two stages of a few shards; the second has a table beside each part and is not finished."""
    first, second = (Output(str(tmp_path), stage, "k1") for stage in ("sampling", "evaluation/sft"))
    for index in range(3):
        first.write_shard(index, pa.table({"id": [f"a{index}" * 50]}), {"traces": 1})
        second.write_shard(index, pa.table({"id": [f"v{index}"]}), kind="verdicts")
        second.write_shard(index, pa.table({"id": [f"b{index}"]}))
    first.finish({"digest": first.written().digest})
    return tmp_path


def test_a_sound_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run)]) == 0
    assert "9 tables hold what was written" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["sampling/k1/part-00001.parquet", "evaluation/sft/k1/verdicts-00002.parquet"])
def test_damage_is_named(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray((run / name).read_bytes())
    data[30] ^= 4
    (run / name).write_bytes(data)
    assert main([f"file://{run}"]) == 1
    said = capsys.readouterr().out
    assert f"{name}: not what was written" in said and "1 faults. Remove the files" in said


def test_a_shard_that_is_gone_or_replaced_is_found(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(str(run), "sampling", "k1")
    output.write_shard(1, pa.table({"id": ["other"]}), {"traces": 1})
    assert main([str(run)]) == 1
    assert "sampling/k1: not the shards that its manifest tells of" in capsys.readouterr().out
    Path(output.shard_path(1)).unlink()
    assert main([str(run)]) == 1


def test_a_manifest_with_a_digest_of_another_form_is_not_compared(run: Path) -> None:
    output = Output(str(run), "sampling", "k1")
    output.finish({"digest": "0" * 32})
    assert main([str(run)]) == 0


def test_no_such_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none")]) == 2
    assert "no such run" in capsys.readouterr().err
