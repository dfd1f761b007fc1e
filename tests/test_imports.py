"""The house's import rules, as written in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RAY_NAMES = ["pipeline", "shardmap", "actor_arguments", "capacity", "cluster", "telemetry", "training/launch"]
RAY_FILES = {f"app/{name}.py" for name in RAY_NAMES}


def test_import_linter_keeps_every_contract() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_planning_loads_no_engine() -> None:
    """`--plan` answers at once: neither ray, torch, vllm nor transformers is imported for it."""
    code = (
        "import sys; from jobs.run import main; assert main(['demo', '--plan']) == 0; "
        "print([m for m in ('ray', 'torch', 'vllm', 'transformers', 'deepspeed') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def importing(module: str) -> set[str]:
    """Files of app/ that import a module, by their text."""
    found = set()
    for path in (ROOT / "app").rglob("*.py"):
        lines = [line.strip() for line in path.read_text().splitlines()]
        if any(
            line == f"import {module}" or line.startswith((f"import {module}.", f"from {module}")) for line in lines
        ):
            found.add(path.relative_to(ROOT).as_posix())
    return found


def test_only_sampling_vllm_imports_vllm() -> None:
    assert importing("vllm") <= {"app/sampling/vllm.py"}


def test_torch_stays_in_training_and_sampling() -> None:
    assert all(path.startswith(("app/training/", "app/sampling/")) for path in importing("torch"))


def test_ray_stays_in_stages_and_launchers() -> None:
    assert all(path in RAY_FILES or path.endswith("stage.py") for path in importing("ray"))
