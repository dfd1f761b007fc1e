"""A run whose folder is in a bucket, by the loop in this process: what a run on a disk writes, through kills too."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs as pafs

from app.errors import UserError
from app.policy import Policy, check_folder, trained_policy
from app.remote_folder import LISTING, Folder, RemoteFile, here
from app.store import filesystem
from app.training.loop import Trainer
from app.training.metrics import Told, read, restarts_of
from tests.training.test_loop import Killed, close, kill_at, weights

MakeTrainer = Callable[..., Trainer]
HOW: dict[str, Any] = {"steps": 12, "checkpoint_steps": 3, "batch": 4}


def files(uri: str) -> list[str]:
    """Every file below an address, relative to it."""
    fs, base = filesystem(uri)
    infos = fs.get_file_info(pafs.FileSelector(base, recursive=True, allow_not_found=True))
    return sorted(info.path.removeprefix(f"{base}/") for info in infos if info.type == pafs.FileType.File)


def losses(trainer: Trainer) -> list[tuple[float, float]]:
    return [(row["step"], row["loss"]) for row in read(trainer.job.metrics)]


def lose_the_node(tmp_path: Path) -> None:
    """The next attempt finds no copy of anything."""
    shutil.rmtree(tmp_path / "cache")


def forget(trainer: Trainer, name: str) -> None:
    """Overwrite a file of the newest checkpoint by as many other bytes."""
    fs, path = filesystem(f"{trainer.job.output.uri}/checkpoints/{name}")
    with fs.open_output_stream(path) as sink:
        sink.write(b"x" * fs.get_file_info(path).size)


@pytest.fixture
def whole(make_trainer: MakeTrainer, tmp_path: Path) -> Trainer:
    """The run on a disk, left alone."""
    trainer = make_trainer("dpo", root=tmp_path / "whole", **HOW)
    trainer.train()
    return trainer


def test_a_run_in_a_bucket_is_the_run_on_a_disk(
    make_trainer: MakeTrainer, whole: Trainer, bucket: str, tmp_path: Path
) -> None:
    stored = make_trainer("dpo", root=f"{bucket}/runs/one", **HOW)
    stored.train()
    assert losses(stored) == losses(whole)
    output = stored.job.output
    names = set(files(output.uri))
    assert {f"checkpoints/step-{n:08d}/{LISTING}" for n in (6, 9)} | {f"model/{LISTING}", "metrics.jsonl"} <= names
    assert not any("step-00000003" in name for name in names)
    policy = trained_policy(output)
    assert policy == Policy(f"{output.uri}/model", "k")
    model = Path(policy.here().path)
    check_folder(str(model))
    assert close(weights(model), weights(whole.job.output.local("model")), 0)
    left = [path for path in (tmp_path / "cache" / "runs").rglob("*") if path.is_file()]
    assert [path.name for path in left] == ["metrics.jsonl"]  # a node keeps no second copy of weights
    assert f"key `k`: {HOW['steps']} steps" in (model / "README.md").read_text()
    [reference] = files(f"{bucket}/runs/one/training/references")
    assert reference.endswith(".parquet")


def test_a_killed_run_goes_on_on_another_node(
    make_trainer: MakeTrainer, whole: Trainer, bucket: str, tmp_path: Path
) -> None:
    """Killed in step 8, after the checkpoint of step 6: the rows the driver knew of are made again and counted."""
    told = Told()
    cut = make_trainer("dpo", root=f"{bucket}/runs/cut", **HOW)
    cut.feed = told
    kill_at(cut, 8)
    assert [step for step, _ in losses(cut)] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in told.after(6)] == [7, 8]
    lose_the_node(tmp_path)
    again = make_trainer("dpo", root=f"{bucket}/runs/cut", **HOW)
    again.feed = told
    again.train()
    assert losses(again) == losses(whole)
    [restart] = read(restarts_of(again.job.metrics))
    assert (restart["step"], restart["redone_steps"]) == (6, 2)
    assert close(weights(Path(here(again.job.model))), weights(whole.job.output.local("model")), 0)


def test_a_lost_driver_leaves_the_rows_up_to_the_checkpoint(
    make_trainer: MakeTrainer, whole: Trainer, bucket: str, tmp_path: Path
) -> None:
    cut = make_trainer("dpo", root=f"{bucket}/runs/cut", **HOW)
    kill_at(cut, 8)
    lose_the_node(tmp_path)
    again = make_trainer("dpo", root=f"{bucket}/runs/cut", **HOW)
    again.train()
    assert losses(again) == losses(whole)
    assert [row["step"] for row in read(restarts_of(again.job.metrics))] == [6]


@pytest.mark.parametrize("damage", ["overwritten", "missing", "not committed"])
def test_a_damaged_checkpoint_is_passed_over(
    make_trainer: MakeTrainer, whole: Trainer, bucket: str, tmp_path: Path, damage: str
) -> None:
    cut = make_trainer("dpo", root=f"{bucket}/runs/cut", **HOW)
    kill_at(cut, 8)
    newest = Folder(f"{cut.job.output.uri}/checkpoints/step-00000006")
    listing = newest.listing()
    assert listing
    victim = max(listing["files"])
    if damage == "overwritten":
        forget(cut, f"step-00000006/{victim}")
    else:
        RemoteFile(f"{newest.uri}/{victim if damage == 'missing' else LISTING}").unlink()
    lose_the_node(tmp_path)
    again = make_trainer("dpo", root=f"{bucket}/runs/cut", **HOW)
    assert (again.checkpoints.complete(), again.checkpoints.damaged()) == ([3], [newest.uri])
    again.train()
    assert losses(again) == losses(whole)
    assert again.checkpoints.complete() == [6, 9]  # and the damaged one was written anew


@pytest.mark.parametrize("name", ["../../planted.pt", "/etc/passwd", "state/../../x"])
def test_a_listing_that_points_out_of_its_folder_counts_for_nothing(
    make_trainer: MakeTrainer, bucket: str, name: str
) -> None:
    trainer = make_trainer("dpo", root=f"{bucket}/runs/cut", **HOW)
    kill_at(trainer, 4)
    listing = RemoteFile(f"{trainer.job.output.uri}/checkpoints/step-00000003/{LISTING}")
    body = json.loads(listing.read_text())
    listing.write_text(json.dumps(body | {"files": body["files"] | {name: "0" * 32}}))
    assert trainer.checkpoints.complete() == []


def test_another_precision_is_refused_by_the_checkpoints_address(make_trainer: MakeTrainer, bucket: str) -> None:
    kill_at(make_trainer("sft", root=f"{bucket}/runs/cut", **HOW), 4)
    again = make_trainer("sft", root=f"{bucket}/runs/cut", precision="bf16", **HOW)
    with pytest.raises(UserError, match=rf"{bucket}/.*step-00000003: written with precision fp32, now it is bf16"):
        again.train()


def test_candidates_are_offered_in_the_bucket_and_the_best_becomes_the_model(
    make_trainer: MakeTrainer, bucket: str
) -> None:
    trainer = make_trainer("sft", root=f"{bucket}/runs/early", steps=9, evaluate_every=2, patience=1)
    candidates, inner = trainer.job.candidates, trainer.step

    def step(index: int) -> dict[str, float]:
        if index == 4:
            candidates.stop.touch()  # seen before the next step
        return inner(index)

    trainer.step = step  # type: ignore[method-assign]
    trainer.train()
    assert candidates.there() == [2, 4] and candidates.next() == 2
    candidates.add({"step": 2, "accuracy": 0.5})
    assert not candidates.wanted(2) and not candidates.wanted(4) and candidates.wanted(6)
    best = weights(Path(here(candidates.address(2))))
    candidates.add({"step": 4, "accuracy": 0.5})
    assert candidates.there() == [2] and candidates.chosen()[1] == 4
    for _ in range(2):  # a stopped run comes here again
        assert candidates.promote(trainer.job.model)["step"] == 2
        assert close(weights(Path(here(trainer.job.model))), best, 0)
    assert not [name for name in files(trainer.job.output.uri) if name.startswith(("candidates", "stop"))]


class Gate:
    """Uploads of checkpoints that wait until they are let through, or fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.error = threading.Event(), ""
        inner = Folder.put

        def put(folder: Folder, local: Path) -> dict[str, str]:
            if "/checkpoints/" in folder.uri:
                assert self.open.wait(60)
                if self.error:
                    raise OSError(self.error)
            return inner(folder, local)

        monkeypatch.setattr(Folder, "put", put)


def at_step(trainer: Trainer, look: Callable[[int], None]) -> None:
    """Call `look` at the begin of each step, with its number from 0."""
    inner = trainer.step

    def step(index: int) -> dict[str, float]:
        look(index)
        return inner(index)

    trainer.step = step  # type: ignore[method-assign]


def test_training_goes_on_while_a_checkpoint_is_uploaded(
    make_trainer: MakeTrainer, whole: Trainer, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, there = Gate(monkeypatch), dict[int, list[int]]()
    trainer = make_trainer("dpo", root=f"{bucket}/runs/one", **HOW)

    def look(index: int) -> None:
        there[index] = trainer.checkpoints.complete()
        if index == 5:
            gate.open.set()  # before the checkpoint of step 6, which waits for that of step 3

    at_step(trainer, look)
    trainer.train()
    assert there[3] == there[4] == there[5] == []
    assert 3 in there[6]
    assert losses(trainer) == losses(whole)
    assert trainer.checkpoints.complete() == [6, 9] and not list(trainer.job.output.local("checkpoints").iterdir())


def test_a_checkpoint_that_did_not_arrive_does_not_count(
    make_trainer: MakeTrainer, whole: Trainer, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    cut = make_trainer("dpo", root=f"{bucket}/runs/cut", **HOW)

    def look(index: int) -> None:
        if index == 5:
            raise Killed

    at_step(cut, look)
    with pytest.raises(Killed):
        cut.train()
    gate.open.set()
    cut.checkpoints.beside.shutdown()  # type: ignore[attr-defined]
    assert cut.checkpoints.complete() == [] and len(cut.checkpoints.damaged()) == 1  # its files, but no list
    lose_the_node(tmp_path)
    again = make_trainer("dpo", root=f"{bucket}/runs/cut", **HOW)
    again.train()
    assert losses(again) == losses(whole) and again.checkpoints.complete() == [6, 9]


def test_an_upload_that_fails_ends_the_attempt(
    make_trainer: MakeTrainer, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    gate.error = "no route to the bucket"
    gate.open.set()
    trainer = make_trainer("sft", root=f"{bucket}/runs/one", **HOW)
    with pytest.raises(OSError, match="no route to the bucket"):
        trainer.train()
    assert trainer.checkpoints.complete() == []


def test_a_notice_waits_until_its_checkpoint_counts(make_trainer: MakeTrainer, bucket: str) -> None:
    """The node goes at its deadline, with whatever is on its way."""
    trainer = make_trainer("sft", root=f"{bucket}/runs/one", steps=4, checkpoint_steps=100, batch=4)
    there: list[list[int]] = []
    trainer.notice.due = lambda _seconds: True  # type: ignore[method-assign]
    at_step(trainer, lambda _index: there.append(trainer.checkpoints.complete()))
    trainer.train()
    assert there == [[], [1], [1, 2], [2, 3]]
    assert trainer.notice.save_seconds > 0
