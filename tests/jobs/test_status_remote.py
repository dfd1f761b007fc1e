"""The status of a run in object storage, and the journal that it is told by, against a real S3 server process."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from app.cost import Held
from app.plan import plan
from app.run_status import RunStatus
from app.settings import Prices
from app.stage_timings import Session, read
from app.store import Output
from jobs.status import in_use, main
from tests.test_status import Run


def test_state_rate_and_cost_of_a_run_in_a_bucket(
    bucket: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Run(Path("unused"))
    run.root = f"{bucket}/runs/made-up"
    run.recipe = run.recipe.model_copy(update={"prices": Prices(currency="EUR", cpu_hour=36.0)})
    assert not in_use(run.root)
    Output(run.root, "", "").write_json("recipe.json", run.recipe.model_dump(mode="json"))
    run.problems()
    for index in range(3):
        run.output("sampling/base").write_shard(index, pa.table({"x": [1]}), {"tokens": 100.0})
    clock = iter([0.0, 50.0]).__next__
    Session(run.output("sampling/base"), Held(1, 2.0, 0.0), clock).save()
    assert [entry["seconds"] for entry in read(run.output("sampling/base"))] == [50.0]
    with RunStatus(run.recipe, run.root, plan([], run.root)):
        assert in_use(run.root)
        assert main([run.root]) == 0
    said = capsys.readouterr().out.splitlines()
    (sampling,) = [line for line in said if line.startswith("sampling/base ")]
    assert sampling.split()[:5] == ["sampling/base", "running", "3/4", "shards", "300"]
    assert sampling.endswith("1.00")  # 50 s of two CPUs at 36 EUR an hour
    assert said[-1].startswith("running: 1 of ") and "1.00 EUR so far" in said[-1]
    assert not in_use(run.root)  # the journal said its last word
