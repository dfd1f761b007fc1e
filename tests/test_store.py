"""Outputs are there whole or not at all, whatever goes wrong."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import UserError
from app.run_lock import run_lock
from app.shard_stats import Total
from app.store import Output, filesystem

TABLE = pa.table({"id": ["a", "b"], "tokens": pa.array([[1, 2], []], pa.list_(pa.int32()))})


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(str(tmp_path / "run"), "training/sft", "k1")


def files(output: Output) -> list[str]:
    folder = Path(output.uri)
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


# -- shards -----------------------------------------------------------------------------------------------------------


def test_a_shard_comes_back_as_it_was(output: Output) -> None:
    output.write_shard(3, TABLE, {"tokens": 2, "x": 0.5})
    assert output.read_shard(3).equals(TABLE)
    assert output.done_shards() == [3] and output.footer(3).num_rows == 2
    assert output.shard_counts(3) == {"tokens": 2, "x": 0.5}
    assert files(output) == ["part-00003.parquet"]


def test_nothing_there(output: Output) -> None:
    assert output.done_shards() == [] and output.counts() == {} and not output.finished
    assert (output.written().shards, output.written().rows, output.damaged()) == (0, 0, [])
    with pytest.raises(UserError, match=r"no shards there; run stage 'training/sft' first"):
        output.read()


@given(st.lists(st.integers(0, 120_000), unique=True, max_size=6))
@settings(max_examples=20, deadline=None)
def test_done_shards_are_numbers_in_order(tmp_path_factory: pytest.TempPathFactory, indices: list[int]) -> None:
    output = Output(str(tmp_path_factory.mktemp("run")), "s", "k")
    for index in indices:
        output.write_shard(index, pa.table({"x": [index]}))
    assert output.done_shards() == sorted(indices)
    if indices:
        assert output.read()["x"].to_pylist() == sorted(indices)


def test_other_kinds_do_not_make_a_shard_done(output: Output) -> None:
    output.write_shard(0, TABLE, kind="verdicts")
    assert output.done_shards() == []
    output.write_shard(0, TABLE.slice(1))
    assert output.done_shards() == [0]
    assert output.read(kind="verdicts").num_rows == 2 and output.read().num_rows == 1


def test_strange_files_are_not_shards(output: Output) -> None:
    output.write_shard(0, TABLE)
    folder = Path(output.uri)
    for name in (".part-00001.parquet.ab12", "part-00002.parquet.tmp", "verdicts-00003.parquet", "notes.txt"):
        (folder / name).write_text("x")
    (folder / "part-00004.parquet").mkdir()
    assert output.done_shards() == [0]


def test_writing_twice_keeps_the_last_and_leaves_no_trace(output: Output) -> None:
    output.write_shard(0, TABLE, {"n": 1})
    output.write_shard(0, TABLE.slice(1), {"n": 2})
    assert output.read().num_rows == 1 and output.counts() == {"n": 2} and files(output) == ["part-00000.parquet"]


def test_the_same_rows_give_the_same_digest(output: Output, tmp_path: Path) -> None:
    other = Output(str(tmp_path / "other"), "s", "k")
    for index in (0, 7):
        output.write_shard(index, TABLE, {"n": index})
    for index in (7, 0):
        other.write_shard(index, TABLE, {"n": index})
    assert output.written() == other.written()
    other.write_shard(0, TABLE, {"n": 2})
    counts = other.written().digest
    other.write_shard(0, TABLE.slice(1), {"n": 0})
    assert len({output.written().digest, counts, other.written().digest}) == 3


def test_a_receipt_says_what_the_footer_says(output: Output) -> None:
    tables = {0: TABLE, 7: [TABLE, TABLE.slice(1)], 3: TABLE.slice(0, 0)}
    told = [output.write_shard(index, table, {"n": 0.1 * index}) for index, table in tables.items()]
    assert told == list(output.receipts([0, 7, 3]))
    assert [receipt.rows for receipt in told] == [2, 3, 0]
    output.write_shard(0, TABLE, {"n": 0.5}, kind="rollouts")
    assert output.written() == Total(told).written != output.written("rollouts")


def test_tables_of_a_shard_are_taken_one_at_a_time(output: Output) -> None:
    """A sink on the disk holds the first before the last is made."""
    sizes = []

    def tables() -> Iterator[pa.Table]:
        for _ in range(3):
            yield pa.table({"x": pa.array([os.urandom(1000) for _row in range(2000)])})
            sizes.append(sum(path.stat().st_size for path in Path(output.uri).iterdir()))

    assert output.write_shard(0, tables()).rows == 6000
    assert sizes[0] < sizes[1] < sizes[2]


def test_what_is_written_is_summed_in_any_number_of_shards(output: Output) -> None:
    for index in range(70):  # more than are read at a time
        output.write_shard(index, TABLE.slice(index % 2), {"n": index})
    found = output.written()
    assert (found.shards, found.rows, found.counts) == (70, 105, {"n": 70 * 69 / 2})


@pytest.mark.parametrize("where", ["data", "counts", "end", "all"])
def test_a_byte_that_changed_on_the_disk_is_found(output: Output, where: str) -> None:
    for index in range(3):
        output.write_shard(index, TABLE, {"tokens": 5})
    output.write_shard(1, TABLE, kind="verdicts")
    assert output.damaged() == output.damaged("verdicts") == []
    path = Path(output.shard_path(1))
    data = bytearray(path.read_bytes())
    if where == "end":
        data = data[:-5]
    elif where == "all":
        data = bytearray()
    else:
        data[data.index(b'"tokens": 5') + 10 if where == "counts" else 20] ^= 1
    path.write_bytes(data)
    assert output.damaged() == ["part-00001.parquet"] and output.damaged("verdicts") == []


def test_a_shard_may_have_several_row_groups(output: Output) -> None:
    output.write_shard(0, [TABLE, TABLE.slice(1)])
    assert output.read().num_rows == 3 and output.damaged() == []
    assert [output.footer(0).row_group(i).num_rows for i in range(2)] == [2, 1]


def test_counts_sum_over_shards(output: Output) -> None:
    output.write_shard(0, TABLE, {"a": 1, "b": 2})
    output.write_shard(5, TABLE, {"a": 10})
    output.write_shard(6, TABLE)
    assert output.counts() == {"a": 11, "b": 2}


def test_columns_can_be_chosen(output: Output) -> None:
    output.write_shard(0, TABLE)
    assert output.read(["id"]).column_names == ["id"]
    assert [t.column_names for t in output.tables(["tokens"])] == [["tokens"]]


def test_an_empty_shard_is_done_too(output: Output) -> None:
    output.write_shard(0, TABLE.slice(0, 0), {"problems": 4})
    assert output.done_shards() == [0] and output.footer(0).num_rows == 0
    assert output.read().schema.equals(TABLE.schema)


def test_keys_with_equals_signs_are_not_partitions(tmp_path: Path) -> None:
    """pyarrow reads folders named a=b as columns; ours must not be."""
    output = Output(str(tmp_path / "lr=0.1"), "s", "k=1")
    output.write_shard(0, TABLE)
    assert output.read().column_names == ["id", "tokens"]


def test_outputs_travel_to_workers(output: Output) -> None:
    assert pickle.loads(pickle.dumps(output)) == output


def test_a_file_uri_is_a_root_too(tmp_path: Path) -> None:
    output = Output(f"file://{tmp_path}/run", "s", "k")
    output.write_shard(0, TABLE, {"n": 1})
    output.finish({"stage": "s"})
    assert (tmp_path / "run" / "s" / "k" / "part-00000.parquet").exists()
    assert output.finished and output.manifest() == {"stage": "s"} and output.counts() == {"n": 1}


def test_of_a_run_at_a_uri_a_local_folder_is_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIGHTFOLD_CACHE", str(tmp_path / "cache"))
    here, there = (Output(f"file://{tmp_path}/{name}", "training/sft", "k").local("model") for name in "ab")
    assert here.is_relative_to(tmp_path / "cache") and here.name == "model" and here != there
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700  # checkpoints are unpickled


def test_local_is_a_folder_of_the_output(output: Output) -> None:
    assert output.local("model", "x") == Path(output.uri, "model", "x")


def test_a_relative_root_is_read_where_the_process_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Output("runs/a", "s", "k").write_shard(0, TABLE)
    assert (tmp_path / "runs/a/s/k/part-00000.parquet").exists()
    assert filesystem("runs")[1] == str(tmp_path / "runs")


# -- manifests --------------------------------------------------------------------------------------------------------


def test_a_manifest_finishes_the_stage(output: Output) -> None:
    output.write_shard(0, TABLE)
    assert not output.finished
    output.finish({"b": 1, "a": "\u00e9"})
    assert output.finished and output.manifest() == {"a": "\u00e9", "b": 1}
    assert Path(output.uri, "manifest.json").read_text() == '{\n  "a": "\u00e9",\n  "b": 1\n}\n'


def test_a_manifest_that_json_cannot_hold_leaves_none(output: Output) -> None:
    with pytest.raises(TypeError):
        output.finish({"x": object()})
    assert not output.finished and files(output) == []


# -- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_a_writer_that_raises_leaves_nothing(output: Output, error: type[BaseException]) -> None:
    with pytest.raises(error), output.atomic("part-00000.parquet") as sink:
        sink.write(b"half of it")
        raise error
    assert files(output) == [] and output.done_shards() == []


def test_a_writer_that_raises_keeps_what_was_there(output: Output) -> None:
    output.write_shard(0, TABLE)
    with pytest.raises(ValueError), output.atomic("part-00000.parquet") as sink:
        sink.write(b"half of it")
        raise ValueError
    assert output.read().equals(TABLE) and files(output) == ["part-00000.parquet"]


def test_a_file_appears_only_when_it_is_whole(output: Output) -> None:
    with output.atomic("a.bin") as sink:
        sink.write(b"half")
        assert not Path(output.uri, "a.bin").exists()
        sink.write(b" and half")
    assert Path(output.uri, "a.bin").read_bytes() == b"half and half"


def die_in_the_middle(output: Output) -> None:
    with output.atomic("part-00000.parquet") as sink:
        sink.write(b"half of it")
        sink.flush()
        os._exit(9)


def test_a_process_that_dies_leaves_no_shard(output: Output) -> None:
    process = multiprocessing.get_context("fork").Process(target=die_in_the_middle, args=(output,))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert output.done_shards() == []
    output.write_shard(0, TABLE)
    assert output.read().equals(TABLE)


def test_a_folder_in_the_way_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file, not a folder")
    with pytest.raises(UserError, match=r"cannot write .*run/s/k/part-00000.parquet.*run the same command again"):
        Output(str(tmp_path / "run"), "s", "k").write_shard(0, TABLE)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB, where the tests may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_one_clear_error_and_loses_nothing(small_disk: Path) -> None:
    output = Output(str(small_disk / "run"), "s", "k")
    output.write_shard(0, TABLE, {"n": 1})
    big = pa.table({"x": pa.array([os.urandom(1000) for _ in range(2000)])})
    with pytest.raises(UserError, match=r"No space left on device.*free some space"):
        output.write_shard(1, big)
    assert output.done_shards() == [0] and output.read().equals(TABLE)
    assert files(output) == ["part-00000.parquet"]
    output.write_shard(1, TABLE)  # room is back: the half-written file is gone
    assert output.done_shards() == [0, 1]


def test_a_full_disk_leaves_no_half_manifest(small_disk: Path) -> None:
    output = Output(str(small_disk / "run"), "s", "k")
    with pytest.raises(UserError, match="No space left"):
        output.finish({"x": "y" * 400_000})
    assert not output.finished and files(output) == []


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder nobody may write to, not even root."""
    folder = tmp_path / "run"
    folder.mkdir()
    if os.geteuid() == 0:
        options = ["-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", folder]
        if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
            pytest.skip("root writes everywhere, and no read-only file system can be mounted")
        yield folder
        subprocess.run(["umount", folder], check=True)
    else:
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)


def test_an_unwritable_folder_is_one_clear_error(read_only: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*mend the folder"):
        Output(str(read_only), "s", "k").write_shard(0, TABLE)
    with (
        pytest.raises(UserError, match=r"cannot write in run folder .*Choose another with --runs"),
        run_lock(str(read_only)),
    ):
        pass
