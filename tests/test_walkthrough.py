"""The walkthrough runs as its first lines say, in one process without Ray."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUN = """
import runpy, sys
sys.argv = ["docs/walkthrough.py", "--tiny"]
runpy.run_path(sys.argv[0], run_name="__main__")
print("machinery:", [name for name in ("ray", "vllm", "deepspeed") if name in sys.modules])
"""


@pytest.mark.timeout(900)
def test_the_whole_method_in_one_process() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", RUN], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("machinery: []\n")
    shown = re.findall(r"^(base|SFT|RFT|per-step DPO) +(\d+\.\d)%", done.stdout, re.MULTILINE)
    assert [name for name, _ in shown] == ["base", "SFT", "RFT", "per-step DPO"]
    figures = {name: float(share) for name, share in shown}
    assert figures["RFT"] > figures["base"]  # 40 problems show no more than that
    assert re.search(r"\d+ of 200 samples are right", done.stdout) and "<- first pit" in done.stdout
    [pairs] = re.findall(r"^(\d+) pairs; the first prefers ", done.stdout, re.MULTILINE)
    assert int(pairs) > 20
