"""Wheels that a GPU machine without network lacks, in parts small enough to carry.

    make gpu-bundle HAVE=have.txt [GPU_PYTHON=3.12] [WANT="deepspeed peft trl"] [PART_MB=60] [OUT=gpu-bundle]

HAVE is what `pip list` or `pip freeze` says there (any of its formats). Its torch, triton and CUDA stay as they are; of
the rest, what fits is used and what is missing or does not fit is bundled. benchmarks/gpu_offline.sh is the other end.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from app.errors import UserError, one_clear_error

ROOT = Path(__file__).parents[1]
NEEDED = ("transformers", "numpy", "pydantic", "pyarrow", "safetensors", "tokenizers", "pyyaml")  # of every part
EXTRA = "deepspeed peft trl"  # without them parts are skipped or have one peer less
STAYS = re.compile(r"torch|torchvision|torchaudio|triton|pytorch-triton|cuda-.*|nvidia-.*")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64")
LISTING, PART = "SHA256SUMS", "part-{:03}"

Versions = dict[str, str]


def versions_of(text: str) -> Versions:
    """Names and versions of `pip list`'s table, of `pip freeze` or of pip's JSON; local parts (+cu130) left out.

    Raises UserError on a line without a version.
    """
    if text.lstrip().startswith("["):
        pairs = [(one["name"], one["version"]) for one in json.loads(text)]
    else:
        lines = [line for line in text.splitlines() if line.strip() and not re.match(r"Package\s|-{3,}|#", line)]
        pairs = []
        for line in lines:
            found = re.match(r"([\w.-]+)(?:==|\s+)([0-9][\w.!+-]*)", line.strip())
            if not found:
                raise UserError(f"{line.strip()!r} names no version; give what `pip list` says on the GPU machine")
            pairs.append((found[1], found[2]))
    return {canonicalize_name(name): version.partition("+")[0] for name, version in pairs}


def wanted(names: Iterable[str]) -> list[str]:
    """Requirements: those of pyproject.toml for the names in it, else the name itself; `all` is the whole job."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    whole = [*project["dependencies"], *extras["gpu"], *extras["lora"]]
    known = {canonicalize_name(Requirement(line).name): line for line in (*extras["bench"], *whole)}
    given = [name for name in names if name != "all"]
    lines = [known.get(canonicalize_name(name), name) for name in (*NEEDED, *given)]
    return sorted({*lines, *(whole if "all" in names else ())})


def resolve(lines: list[str], have: Versions, python: str) -> Versions:
    """What must be there, by uv: the machine's own versions where they fit; nothing that stays."""
    with tempfile.TemporaryDirectory() as folder:
        asked, out, dropped = (Path(folder, name) for name in ("asked.in", "out.txt", "dropped.txt"))
        asked.write_text("\n".join(lines))
        out.write_text("".join(f"{name}=={version}\n" for name, version in have.items()))  # uv prefers what it finds
        stays = {"torch", "triton", *(name for name in have if STAYS.fullmatch(name))}
        dropped.write_text("".join(f"{name} ; python_version < '0'\n" for name in sorted(stays)))
        command = [_uv(), "pip", "compile", str(asked), "-o", str(out), "--override", str(dropped), "-q"]
        command += ["--python-version", python, "--python-platform", "x86_64-manylinux_2_28"]
        command += ["--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links", "--no-sources"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"no set of packages fits:\n{done.stderr.strip()[-2000:]}")
        found = versions_of(out.read_text())
    return {name: version for name, version in found.items() if not STAYS.fullmatch(name)}


def _uv() -> str:
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise UserError("uv is not installed; make setup brings it")
    return found


def fetch(lacking: Versions, python: str, folder: Path) -> None:
    """Wheels into `folder`; what has none for that Python is built, where it holds no machine code."""
    options = ["--no-deps", "-q", "--dest", str(folder), "--only-binary=:all:", "--python-version", python]
    options += ["--implementation", "cp", *(word for one in PLATFORMS for word in ("--platform", one))]
    for name, version in lacking.items():
        pin = f"{name}=={version}"
        done = _pip("download", *options, pin)
        if done.returncode:
            _built(pin, folder, done.stderr)


def _built(pin: str, folder: Path, why: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        done = _pip("wheel", "--no-deps", "--no-build-isolation", "-q", "-w", scratch, pin, DS_BUILD_OPS="0")
        wheels = list(Path(scratch).glob("*-none-any.whl"))
        if done.returncode or not wheels:
            said = (done.stderr or why).strip()[-600:]
            raise UserError(f"{pin}: no wheel for that Python, and none that fits can be built here: {said}")
        shutil.copy(wheels[0], folder)


def _pip(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", *words]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


def unmet(folder: Path, have: Versions, python: str) -> list[str]:
    """What the wheels ask for and neither they nor the machine have, a line each."""
    wheels = {parse_wheel_filename(path.name)[0]: path for path in sorted(folder.glob("*.whl"))}
    there = have | {name: str(parse_wheel_filename(path.name)[1]) for name, path in wheels.items()}
    where = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux", "extra": ""}
    where |= {"platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"}
    lines = []
    for name, path in wheels.items():
        for line in _asked(path):
            asked = Requirement(line)
            if asked.marker and not asked.marker.evaluate(where):
                continue
            version = there.get(canonicalize_name(asked.name))
            if version is None or not asked.specifier.contains(version, prereleases=True):
                lines.append(f"{name} needs {asked.name}{asked.specifier}; there is {version or 'none'}")
    return lines


def _asked(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [one for one in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", one)]
        return HeaderParser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []


class Parts(io.RawIOBase):
    """A stream cut into files of `size` bytes."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size, self.count, self.room = folder, size, 0, 0
        self.sums: list[str] = []
        self._part: io.BufferedWriter | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        left = memoryview(data)
        while left:
            if not self.room:
                self._next()
            assert self._part
            taken = left[: self.room]
            self._part.write(taken)
            self._digest.update(taken)
            self.room -= len(taken)
            left = left[len(taken) :]
        return len(data)

    def _next(self) -> None:
        self._end()
        self._part = (self.folder / PART.format(self.count)).open("wb")
        self._digest = hashlib.sha256()
        self.count, self.room = self.count + 1, self.size

    def _end(self) -> None:
        if self._part:
            self._part.close()
            self.sums.append(f"{self._digest.hexdigest()}  {Path(self._part.name).name}\n")
            self._part = None

    def close(self) -> None:
        if not self.closed:
            self._end()
            (self.folder / LISTING).write_text("".join(self.sums))
        super().close()


def pack(wheels: Path, out: Path, size: int) -> int:
    """The wheels as parts of at most `size` bytes in `out`, which is new; returns how many."""
    out.mkdir(parents=True)
    parts = Parts(out, size)
    with parts, tarfile.open(fileobj=parts, mode="w|") as archive:
        for path in sorted(wheels.glob("*.whl")):
            archive.add(path, f"wheels/{path.name}")
    return parts.count


def bundle(have: Versions, want: Iterable[str], python: str, out: Path, size: int) -> str:
    """Resolve, fetch, check, pack; what was done, in words. Raises UserError."""
    if out.exists():
        raise UserError(f"{out} exists; remove it, or give another folder")
    if "torch" not in have:
        raise UserError("the list names no torch: the bundle is installed beside a torch that is there")
    resolved = resolve(wanted(want), have, python)
    lacking = {name: version for name, version in resolved.items() if have.get(name) != version}
    with tempfile.TemporaryDirectory() as folder:
        fetch(lacking, python, Path(folder))
        if lines := unmet(Path(folder), have, python):
            raise UserError("these would not work together there; leave them out of WANT:\n" + "\n".join(lines))
        count = pack(Path(folder), out, size)
    total = sum(path.stat().st_size for path in out.iterdir()) / 1e6
    return f"{out}: {len(lacking)} wheels, {total:.0f} MB in {count} parts: {told(lacking)}"


def told(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items()) or "nothing is lacking"


@one_clear_error
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--have", type=Path, required=True, help="what `pip list` says on the machine")
    parser.add_argument("--python", default="3.12", help="its Python (3.12)")
    parser.add_argument("--want", default=EXTRA, help=f"packages besides those that all parts need ({EXTRA}); all")
    parser.add_argument("--out", type=Path, default=Path("gpu-bundle"), help="a new folder (gpu-bundle)")
    parser.add_argument("--part-mb", type=float, default=60, help="size of a part at most (60)")
    options = parser.parse_args(argv)
    if options.part_mb <= 0:
        raise UserError("--part-mb: give a number above 0")
    if not options.have.is_file():
        raise UserError(f"{options.have}: no such file; write there what `pip list` says on the GPU machine")
    have = versions_of(options.have.read_text())
    print(bundle(have, options.want.split(), options.python, options.out, int(1e6 * options.part_mb)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
