"""Temporary folders outlive a kill of their owner by one start."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from app.scratch import OWNER, scratch, sweep

HOLD = "from app.scratch import scratch\nwith scratch() as folder:\n  print(folder, flush=True); input()"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def test_a_folder_goes_with_its_block(tmp_path: Path) -> None:
    with scratch() as folder:
        assert Path(folder).stat().st_mode & 0o777 == 0o700
        assert sweep() == []  # its owner lives
    assert list(tmp_path.iterdir()) == []


def test_a_killed_owners_folder_is_swept_at_the_next_start_and_a_living_ones_is_not(tmp_path: Path) -> None:
    owners = [
        subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    folders = [Path(owner.stdout.readline().strip()) for owner in owners if owner.stdout]
    owners[0].kill()
    owners[0].wait()
    with scratch() as own:
        assert [folder.exists() for folder in folders] == [False, True]
        assert Path(own).exists()
    owners[1].communicate("\n")
    assert not folders[1].exists()


def test_what_could_not_be_removed_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of a killed driver's Ray may write for a moment while its folder is swept."""
    folder = tmp_path / "eightfold-left"
    (folder / "session" / "logs").mkdir(parents=True)
    (folder / "port").touch()
    (folder / OWNER).touch()
    with monkeypatch.context() as busy:
        busy.setattr(shutil, "rmtree", lambda *_arguments, **_how: None)
        sweep()
    assert sorted(path.name for path in folder.iterdir()) == [OWNER, "session"]
    assert sweep() == [str(folder)] and not folder.exists()


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "eightfold-of-something-else"
    other.mkdir()
    assert sweep() == [] and other.exists()
    (other / OWNER).touch()
    assert sweep() == [str(other)] and not other.exists()
