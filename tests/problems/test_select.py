"""Problems by slice and by id, without the whole file: as if all had been read and sorted."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import UserError
from app.problems import select
from app.problems.select import Problems, problems_of, write_problems
from app.problems.settings import ProblemsSettings
from app.problems.stage import load
from app.problems.world import each_problem
from app.records import Problem
from app.store import Output

SPLITS = ("test", "train", "validation")


def made(counts: dict[str, int], seed: int = 0) -> list[Problem]:
    rng = random.Random(seed)
    found = [
        Problem(f"{rng.choice('aäz')}-{n:05d}", f"{split} {n}", str(n), split, "made-up")
        for split, count in counts.items()
        for n in range(count)
    ]
    rng.shuffle(found)
    return found


def written(folder: Path, problems: list[Problem]) -> Output:
    output = Output(str(folder), "problems", "k")
    write_problems(output, problems, {})
    return output


@settings(max_examples=40)
@given(
    counts=st.fixed_dictionaries({split: st.integers(0, 30) for split in SPLITS}),
    size=st.integers(1, 12),
    rows=st.integers(1, 9),
    run=st.integers(1, 40),
    ordered=st.booleans(),
)
def test_shards_are_slices_of_the_sorted_split(
    tmp_path_factory: pytest.TempPathFactory, counts: dict[str, int], size: int, rows: int, run: int, ordered: bool
) -> None:
    problems = made(counts)
    output = Output(str(tmp_path_factory.mktemp("run")), "problems", "k")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select, "ROWS", rows)
        patch.setattr(select, "SORTED", run)
        write_problems(output, problems, {"n": 1.0})
    if not ordered:
        output.write_shard(0, Problem.table(problems), {"n": 1.0})
    for split, count in counts.items():
        if not count:
            continue
        expected = sorted((p for p in problems if p.split == split), key=lambda p: p.id)
        found = Problems(output, split)
        assert len(found) == count and found.shards(size) == len(range(0, count, size))
        shards = [found.shard(index, size) for index in range(found.shards(size))]
        assert shards == [expected[i : i + size] for i in range(0, count, size)]
        assert problems_of(output, split) == expected
        some = random.Random(0).sample(expected, min(7, count))
        assert found.named(p.id for p in some) == {p.id: p for p in some}
    assert output.counts() == {"n": 1.0}


def test_a_split_without_problems_is_the_users_mistake(tmp_path: Path) -> None:
    output = written(tmp_path, made({"test": 4}))
    with pytest.raises(UserError, match=r"no train problems there; raise problems.train in the recipe"):
        Problems(output, "train")
    with pytest.raises(UserError, match="no train problems there"):
        Problems(written(tmp_path / "none", []), "train")


@pytest.mark.parametrize("name", ["", "a-99999", "zz"])
def test_an_id_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    found = Problems(written(tmp_path, made({"train": 40, "test": 3})), "train")
    with pytest.raises(KeyError, match=f"no train problem '{name}'"):
        found.named([name])


def test_row_groups_out_of_order_are_refused(tmp_path: Path) -> None:
    rows = made({"train": 8})
    output = Output(str(tmp_path), "problems", "k")
    output.write_shard(0, [Problem.table(rows[:4]), Problem.table(rows[4:])])
    with pytest.raises(RuntimeError, match="not in order of id; remove the folder and run again"):
        Problems(output, "train")


def test_a_shard_reads_its_own_row_groups_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "ROWS", 8)
    found = Problems(written(tmp_path, made({"train": 64, "test": 20})), "train")
    read: list[int] = []
    whole = found.file.read_row_group
    found.file = type(
        "File", (), {"read_row_group": staticmethod(lambda number: read.append(number) or whole(number))}
    )()
    assert len(found.shard(5, 4)) == 4 and len(read) == 1
    assert len(found.shard(4, 4)) == 4 and len(read) == 1  # the same row group, still held
    assert len(found.slice(4, 20)) == 16 and len(read) == 4


def test_what_writing_holds_does_not_grow_with_the_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "SORTED", 500)
    monkeypatch.setattr(select, "MERGED", 20)

    def peak(count: int) -> int:
        output = Output(str(tmp_path), "problems", str(count))
        tracemalloc.start()
        write_problems(output, each_problem(0, count, "train"), {})
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(Problems(output, "train")) == count
        return most

    peak(500)  # imports
    few, many = peak(1500), peak(6000)
    assert many - few < 4500 * 400  # of the 1,000 bytes and more that a problem takes


def test_the_world_in_pieces_is_the_world_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings_ = ProblemsSettings(train=60, validation=7, test=9)
    problems, counts = load(settings_, seed=3)
    whole = written(tmp_path / "whole", list(problems))
    monkeypatch.setattr(select, "SORTED", 10)
    pieces = Output(str(tmp_path / "pieces"), "problems", "k")
    write_problems(pieces, load(settings_, seed=3)[0], {})
    assert pieces.written() == whole.written() and pieces.read().num_rows == 76
    assert {split: len(Problems(pieces, split)) for split in SPLITS} == dict(counts)
