"""Which checkpoints a run takes for its own: whole ones, in its own folder, reached by no link. They are unpickled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.errors import UserError
from app.recipe import Recipe
from app.training import checkpoint


def make(folder: Path, step: int) -> Path:
    """A checkpoint's files."""
    path = folder / f"step-{step:08d}"
    (path / "state").mkdir(parents=True)
    (path / "state" / "weights.pt").write_bytes(b"0123456789")
    listed = {"state/weights.pt": checkpoint.sampled_digest(path / "state" / "weights.pt")}
    (path / checkpoint.LISTING).write_text(json.dumps({"step": step, "facts": {}, "files": listed}))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The run's own folder of checkpoints, with one."""
    own = tmp_path / "run" / "checkpoints"
    make(own, 10)
    return own


def names(folder: Path) -> list[str]:
    return [path.name for path in checkpoint.complete(folder)]


def test_its_own_is_taken(folder: Path) -> None:
    assert names(folder) == ["step-00000010"] and checkpoint.damaged(folder) == []


def test_a_link_to_another_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    outside = make(tmp_path / "elsewhere", 20)
    (folder / "step-00000020").symlink_to(outside)
    assert names(folder) == ["step-00000010"]
    assert [path.name for path in checkpoint.damaged(folder)] == ["step-00000020"]


@pytest.mark.parametrize("listed", [True, False])
def test_a_linked_file_is_refused(folder: Path, tmp_path: Path, listed: bool) -> None:
    """Also one that the listing does not name: DeepSpeed may look for files by pattern."""
    planted = tmp_path / "planted.pt"
    planted.write_bytes(b"0123456789")
    path = make(folder, 20)
    link = path / "state" / ("weights.pt" if listed else "zero_pp_rank_0.pt")
    link.unlink(missing_ok=True)
    link.symlink_to(planted)
    assert names(folder) == ["step-00000010"]


@pytest.mark.parametrize("name", ["../../../planted.pt", "/etc/passwd"])
def test_a_listing_that_points_out_changes_nothing_of_what_is_read(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "planted.pt").write_bytes(b"0123456789")
    path = make(folder, 20)
    body = json.loads((path / checkpoint.LISTING).read_text())
    (path / checkpoint.LISTING).write_text(json.dumps(body | {"files": {name: checkpoint.sampled_digest(path / name)}}))
    assert names(folder) == ["step-00000010"]


def test_a_run_folder_behind_a_link_is_still_its_own(folder: Path, tmp_path: Path) -> None:
    """A shared disk may be mounted under another name."""
    (tmp_path / "mounted").symlink_to(tmp_path / "run")
    assert names(tmp_path / "mounted" / "checkpoints") == ["step-00000010"]


@pytest.mark.parametrize("key", ["checkpoint", "resume_from", "resume_from_checkpoint"])
def test_no_recipe_can_name_a_checkpoint(key: str) -> None:
    body = {
        "name": "r",
        "problems": {"train": 1, "validation": 1, "test": 1},
        "runs": {"sft": {"method": "sft", "steps": 1, key: "/elsewhere/step-00000020"}},
    }
    with pytest.raises((ValueError, UserError), match=key):
        Recipe.model_validate(body).trained()
