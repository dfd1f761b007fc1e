"""The pinned stacks are closed: installed without dependencies, as Makefile and docker/ do, nothing is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UNREACHED = re.compile(r"error sending request|dns error|timed out|failed to fetch|connection refused", re.IGNORECASE)


def pins(name: str) -> dict[str, str]:
    return dict(line.split("==") for line in (ROOT / "requirements" / name).read_text().split())


def resolve(requirements: Path) -> subprocess.CompletedProcess[str]:
    """Resolve a file by the metadata of every package in it, on the GPU image's platform; nothing is installed."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        pytest.skip("uv is not installed here (it is in requirements/cpu.txt)")
    # Not the local settings of whoever runs this: a folder of CPU builds would bring a torch that asks for nothing.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("UV_FIND_LINKS")}
    options = ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28", "--no-annotate", "--no-header"]
    done = subprocess.run(
        [uv, "pip", "compile", str(requirements), *options, "--no-config", "-q"],
        capture_output=True,
        text=True,
        env=variables,
        timeout=300,
        check=False,
    )
    if done.returncode and UNREACHED.search(done.stderr):
        pytest.skip(f"no package index in reach: {done.stderr.strip()[-300:]}")
    return done


def test_the_gpu_stack_satisfies_all_that_its_packages_ask_for() -> None:
    done = resolve(ROOT / "requirements/gpu.txt")
    assert done.returncode == 0, done.stderr
    missing = set(done.stdout.split()) - set((ROOT / "requirements/gpu.txt").read_text().split())
    assert missing == set()


def test_a_stack_locked_against_a_cpu_torch_is_found_out(tmp_path: Path) -> None:
    """What the file once held: another Triton, and none of CUDA's libraries."""
    stack = {name: version for name, version in pins("gpu.txt").items() if not name.startswith("nvidia-")}
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("".join(f"{name}=={version}\n" for name, version in stack.items()))
    done = resolve(wrong)
    assert done.returncode == 0, done.stderr
    assert {line.split("==")[0] for line in done.stdout.split()} - stack.keys() >= {
        "nvidia-cudnn-cu13",
        "nvidia-nccl-cu13",
    }
    wrong.write_text("".join(f"{n}=={v}\n" for n, v in (pins("gpu.txt") | {"triton": "3.9.0"}).items()))
    done = resolve(wrong)
    assert done.returncode != 0 and "triton" in done.stderr


def test_both_stacks_agree_on_what_a_run_depends_on() -> None:
    cpu, gpu = pins("cpu.txt"), pins("gpu.txt")
    for name in ("ray", "torch", "transformers", "deepspeed", "pydantic", "tokenizers", "safetensors", "pyarrow"):
        assert cpu[name].rpartition(".")[0] == gpu[name].rpartition(".")[0], name
