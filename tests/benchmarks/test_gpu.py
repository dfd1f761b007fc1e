"""The GPU benchmark on a CPU: its parts through the code that GPUs run, and what becomes of a part that goes wrong."""

from __future__ import annotations

import itertools
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
    status = gpu.main([*(more or ("--quick",)), "--minutes", "28", "--parts", parts, "--json", str(file)])
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


def test_training_is_timed_against_its_peers(one_rank: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from benchmarks.gpu_parts import rates

    monkeypatch.setattr(rates, "find_spec", lambda name: None)  # TRL takes a process of its own: in the slow test
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = [row for task in rates.tasks(SETUP) for row in rates.measure(SETUP, task)]
    torch.set_num_threads(before)
    assert [(row.unit, row.peer) for row in rows] == [
        ("pairs/s", "padded loop"),
        ("pairs/s", "packing"),
        ("tokens/s", None),
        ("%", None),
        ("examples/s", "padded loop"),
        ("tokens/s", None),
        ("%", None),
    ]
    assert all(row.value and row.value > 0 for row in rows)


def test_a_peer_that_runs_out_of_memory_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from benchmarks.gpu_parts import rates

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 5 GiB")

    monkeypatch.setattr(rates, "find_spec", lambda name: None)
    monkeypatch.setattr(rates, "padded", full)
    monkeypatch.setattr(rates, "trained", lambda *_: rates.Found(10.0, None, 1e6))
    rows = rates.measure(SETUP, rates.Task("tiny-llama", "tiny", "sft"))
    assert (rows[0].value, rows[0].peer_value) == (10.0, None)
    assert rows[0].note == "padded loop: OutOfMemoryError: CUDA out of memory. Tried to allocate 5 GiB"


@pytest.mark.parametrize(
    ("points", "value", "said"),
    [
        ([(1.2, 0.9), (2.0, 1.5), (4.0, 3.0)], 2.0, "slower at 1.20"),
        ([(1.2, 1.1), (2.0, 1.5)], 1.2, "never slower"),
        ([(1.2, 1.1), (2.0, 0.9), (3.0, 2.0)], 3.0, "slower at 2.00"),
        ([(1.2, 1.1), (2.0, 0.9)], 2.0, "trees were slower at the largest saving"),
    ],
)
def test_the_crossover_is_where_trees_begin_to_win(points: list[tuple[float, float]], value: float, said: str) -> None:
    from benchmarks.gpu_parts.crossover import crossed

    row = crossed(points)
    assert (row.value, row.note) == (value, said)


def test_rollouts_repeat_what_a_cache_could_keep() -> None:
    from benchmarks.gpu_parts import sampling

    credit = sampling.rollouts(SETUP, "tiny-served")
    lengths = [[len(place[0].prompt_token_ids) for place in places] for places in credit]
    assert all(shorter < longer for places in lengths for shorter, longer in itertools.pairwise(places))
    seen = sum(places[-1] for places in lengths) / sum(8 * length for places in lengths for length in places)
    assert sampling.possible(credit) == pytest.approx(1 - seen)
    asked = sampling.requests(SETUP, "tiny-served")
    assert len({one.prompt_token_ids for one in asked}) == 8 and len({one.id for one in asked}) == 32
    assert max(len(one.prompt_token_ids) + one.max_tokens for one in asked) <= sampling.CONTEXT


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_engine_against_raw_vllm(tmp_path: Path) -> None:
    rows = measured(tmp_path, "sampling")
    rate, start, hits, tail, graphs, _ = rows
    assert rate["peer"] == start["peer"] == "raw-vllm"
    assert all(row["value"] > 0 for row in (rate, start, tail))
    assert hits["ratio"] > 0.8
    assert graphs["note"] == "skipped: CUDA graphs need a GPU"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_demo_runs_as_a_part(tmp_path: Path) -> None:
    rows = measured(tmp_path, "demo")
    assert {row["name"] for row in rows} >= {f"the demo, tiny: accuracy of {name}" for name in ("base", "sft")}
    assert all(row["value"] > 0 for row in rows if row["unit"] == "s")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rates_and_the_crossover_on_a_cpu(tmp_path: Path) -> None:
    rows = measured(tmp_path, "rates,crossover")
    assert {"padded loop", "packing", "trl"} <= {row["peer"] for row in rows}
    assert rows[-1]["name"].startswith("crossover")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_four_workers_learn_what_one_does_whatever_happens_to_them(tmp_path: Path) -> None:
    """ZeRO 3, shared sequences, uneven shards, a slow worker, a killed one, on gloo."""
    rows = measured(tmp_path, "sharding", "--workers", "4")
    found = {row["name"]: row for row in rows}
    assert all(row["value"] < 1e-5 for row in rows if row["value"] is not None)
    assert len([name for name in found if "4 workers" in name]) == 9
    assert [row["name"] for row in rows if row["value"] is None] == ["sharding, QLoRA"]


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
