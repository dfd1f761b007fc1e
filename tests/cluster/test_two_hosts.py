"""The main job on two hosts that share a disk and a network cable and nothing else, not even a loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.two_hosts import ADDRESSES, NotPermitted, TwoHosts
from tests.runs import TINY, recipe_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    try:
        found = TwoHosts(cpus=1)
    except NotPermitted as refused:
        pytest.skip(f"two network namespaces are not permitted here: {refused}")
    try:
        yield found
    finally:
        found.close()


def test_the_main_job_trains_across_two_hosts(hosts: TwoHosts, tmp_path: Path) -> None:
    """Each host has one CPU, so two training workers of one CPU cannot be on one host: gloo runs over the cable."""
    assert hosts.addresses() == set(ADDRESSES.values())
    recipe = TINY | {"placement": TINY["placement"] | {"concurrent_stages": 1, "training": {"workers": 2, "cpus": 1}}}  # type: ignore[operator]
    file = recipe_file(tmp_path, recipe)
    command = [sys.executable, "-m", "jobs.run", str(file), "--runs", str(tmp_path / "runs")]
    job = hosts.popen("head", *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said, _ = job.communicate(timeout=1500)
    assert job.returncode == 0, said[-4000:]
    results = json.loads((tmp_path / "runs" / "tiny" / "results.json").read_text())
    assert set(results["methods"]) == {"base", "sft", "step_dpo"}
    held = {stage["stage"]: stage["cpu_seconds"] / stage["seconds"] for stage in results["stages"]}
    assert held["training/sft"] == pytest.approx(2, abs=0.01)
