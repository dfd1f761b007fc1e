"""Wheels for a machine without network: what it lacks, in parts, and installed there by the script."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from app.errors import UserError
from benchmarks import gpu_bundle
from benchmarks.gpu_bundle import pack, unmet, versions_of, wanted

ROOT = Path(__file__).parents[2]


def wheel(folder: Path, name: str, version: str, *asked: str) -> Path:
    """A package of one module that holds its version."""
    folder.mkdir(exist_ok=True)
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {a}" for a in asked)]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"VERSION = {version!r}\n" + "#" * 3000)
        archive.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


def test_every_form_of_a_package_list_is_read() -> None:
    table = "Package      Version      Editable project location\n------------ ------------\nTorch   2.11.0+cu130\n"
    assert versions_of(table) == {"torch": "2.11.0"}
    assert versions_of("torch==2.11.0+cu130\nPy_Yaml==6.0\n") == {"torch": "2.11.0", "py-yaml": "6.0"}
    assert versions_of('[{"name": "torch", "version": "2.11.0"}]') == {"torch": "2.11.0"}
    with pytest.raises(UserError, match="'torch' names no version"):
        versions_of("torch\n")


def test_names_get_the_bounds_of_the_project() -> None:
    lines = wanted(["deepspeed", "bitsandbytes"])
    assert "deepspeed==0.19.8" in lines and "bitsandbytes" in lines
    assert not any(line.startswith(("ray", "vllm", "torch")) for line in lines)
    assert any(line.startswith("vllm==") for line in wanted(["all"]))


def test_what_would_not_work_together_is_found(tmp_path: Path) -> None:
    wheel(tmp_path, "engine", "1.0", "torch==2.13.0", "tool>=2", "absent; python_version < '3.9'", "more; extra == 'x'")
    wheel(tmp_path, "tool", "2.5")
    assert unmet(tmp_path, {"torch": "2.13.0"}, "3.12") == []
    assert unmet(tmp_path, {"torch": "2.11.0"}, "3.12") == ["engine needs torch==2.13.0; there is 2.11.0"]


def test_a_machine_without_torch_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    have = tmp_path / "have.txt"
    assert gpu_bundle.main(["--have", str(have)]) == 2
    have.write_text("numpy==2.0\n")
    assert gpu_bundle.main(["--have", str(have), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "have.txt: no such file" in said and "the list names no torch" in said


def offline(bundle: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(ROOT / "benchmarks/gpu_offline.sh"), str(bundle), str(folder), *options]
    environment = os.environ | {"PYTHON": sys.executable, "PIP_NO_INDEX": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_parts_are_installed_beside_torch_and_the_checks_run(tmp_path: Path) -> None:
    """In two parts; what the machine has of an older version gives way, for this folder's command alone."""
    wheel(tmp_path / "wheels", "probe_of_bundles", "1.5")
    count = pack(tmp_path / "wheels", tmp_path / "bundle", 2000)
    assert count > 1 and all(path.stat().st_size <= 2000 for path in (tmp_path / "bundle").glob("part-*"))
    done = offline(tmp_path / "bundle", tmp_path / "there", "--minutes", "0.0001", "--parts", "equality")
    assert done.returncode == 0, done.stderr
    assert "skipped: no time left" in done.stdout
    assert (tmp_path / "there/packages/probe_of_bundles.py").is_file()


def test_a_damaged_part_is_found_before_anything_is_installed(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "probe_of_bundles", "1.5")
    pack(tmp_path / "wheels", tmp_path / "bundle", 2000)
    (tmp_path / "bundle/part-001").write_bytes(b"something else")
    done = offline(tmp_path / "bundle", tmp_path / "there")
    assert done.returncode == 2
    assert "a part is missing or damaged" in done.stderr
    assert not (tmp_path / "there").exists()
