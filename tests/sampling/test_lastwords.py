"""A child's last error reaches its parent, and what it says still goes where it went."""

from __future__ import annotations

import subprocess
import sys

import pytest

from app.sampling.lastwords import LastWords


def child(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=False)


def test_the_last_exception_is_kept_and_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with LastWords() as words:
        child("import sys; print('KeyError: first', file=sys.stderr); raise ValueError('no memory for 9 GiB')")
    assert words.error() == "ValueError: no memory for 9 GiB"
    assert "ValueError: no memory for 9 GiB" in capfd.readouterr().err


def test_a_prefix_before_the_exception_is_left_out() -> None:
    with LastWords() as words:
        child("import sys; print('(EngineCore pid=7) torch.OutOfMemoryError: CUDA', file=sys.stderr)")
    assert words.error() == "torch.OutOfMemoryError: CUDA"


def test_a_silent_child_leaves_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with LastWords() as words:
        child("pass")
    assert words.error() == ""
    sys.stderr.flush()
    subprocess.run([sys.executable, "-c", "import sys; print('after', file=sys.stderr)"], check=True)
    assert "after" in capfd.readouterr().err
    assert not any("after" in line for line in words.lines)
