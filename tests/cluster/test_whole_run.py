"""A whole run, training included, on nodes that are lost all the time, against the same run left alone."""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.cluster.local_cluster import LocalCluster, local_cluster
from tests.runs import TINY, ids, recipe_file, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # busy machines take minutes to start nodes

PLACEMENT = {"concurrent_stages": 1, "training": {"max_failures": -1}}
RUNS = {"sft": TINY["runs"]["sft"]}  # type: ignore[index]
RECIPE = TINY | {"runs": RUNS, "placement": TINY["placement"] | PLACEMENT}  # type: ignore[operator]
PAUSE = 20.0  # seconds from one loss to the next; an engine takes about ten to start


class Losses(threading.Thread):
    """Kills a random worker node every PAUSE seconds, and starts another in its place.

    Not before the run has got further than ever: where an engine takes longer to start than a pause, as it does on a
    busy machine, nodes lost by the clock alone would keep the run from ever ending.
    """

    def __init__(self, cluster: LocalCluster, runs: Path) -> None:
        super().__init__(daemon=True)
        self.cluster, self.runs, self.lost, self.over = cluster, runs, 0, threading.Event()
        self.failure: BaseException | None = None

    def written(self) -> int:
        """Bytes of finished shards and of the rows of training's steps."""
        files = [*self.runs.rglob("part-*.parquet"), *self.runs.rglob("metrics.jsonl")]
        return sum(file.stat().st_size for file in files)

    def run(self) -> None:
        best = 0
        try:
            while not self.over.wait(PAUSE):
                if (now := self.written()) <= best:
                    continue
                best = now
                victim = random.choice([name for name in self.cluster.nodes if name != "head"])
                self.cluster.kill_node(victim)
                self.lost += 1
                self.cluster.add_node(f"after-{self.lost}", 1)
        except BaseException as error:
            self.failure = error


def test_nodes_lost_during_a_whole_run_change_nothing(tmp_path: Path) -> None:
    """The job is submitted as users do; two nodes of one CPU work, the head does not."""
    recipe = recipe_file(tmp_path, RECIPE)
    with local_cluster(head_cpus=0) as cluster:
        cluster.add_node("one", 1)
        cluster.add_node("two", 1)
        losses = Losses(cluster, tmp_path / "cluster")
        losses.start()
        begun = time.monotonic()
        # Without a working directory, which nodes on one machine unpack over each other: the code is in PYTHONPATH.
        command = (sys.executable, "-m", "jobs.run", str(recipe), "--runs", str(tmp_path / "cluster"))
        job = cluster.submit(*command)
        losses.over.set()
        losses.join()
    print(f"{losses.lost} nodes lost in {time.monotonic() - begun:.0f} s")
    assert losses.failure is None
    assert job.returncode == 0, job.stdout[-5000:] + job.stderr[-2000:]
    assert losses.lost >= 3
    told = json.loads((tmp_path / "cluster" / "tiny" / "progress.json").read_text())
    assert told["state"] == "done"
    run(recipe, tmp_path / "alone")
    assert ids(tmp_path / "cluster" / "tiny") == ids(tmp_path / "alone" / "tiny") != {}
