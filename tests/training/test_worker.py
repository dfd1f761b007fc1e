"""What a worker does with errors: one that all ranks have is left for the driver, one of storage is tried again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed as dist

from app.errors import UserError
from app.training import dataset
from app.training.worker import train_worker


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    return SimpleNamespace(
        placement=SimpleNamespace(gpus=0, cpus=1),
        dataset=None,
        method="sft",
        settings=SimpleNamespace(max_length=8),
        failure=tmp_path / "failure.txt",
    )


def run(job: Any, cause: BaseException | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any) -> None:
        raise UserError("rows: cannot be read") from cause

    monkeypatch.setattr(dataset, "load", load)
    train_worker({"job": job, "deadline": None, "feed": None})


def test_what_every_rank_finds_is_left_for_the_driver(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run(job, None, monkeypatch)
    assert job.failure.read_text() == "rows: cannot be read"


def test_storage_that_fails_is_tried_again(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        run(job, OSError("slow down"), monkeypatch)
    assert not job.failure.exists()
