"""A whole recipe whose run lies in a bucket: sampling and evaluation with the models it trains, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.errors import UserError
from app.graph import build
from app.pipeline import run as run_pipeline
from app.plan import plan
from app.recipe import load
from app.store import Output
from jobs.status import main as status
from tests.runs import TINY, ids, recipe_file, run

SFT = TINY["runs"]["sft"] | {"evaluate_every": 2, "evaluate_problems": 2}  # type: ignore[index]
RECIPE = TINY | {"runs": TINY["runs"] | {"sft": SFT}}  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_recipe_in_a_bucket_writes_what_it_writes_on_a_disk(bucket: str, tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path, RECIPE)
    said = run(recipe, f"{bucket}/runs")
    assert f"{bucket}/runs/tiny/report/index.html" in said
    assert "training/sft: 4/4 steps" in said
    assert "training/sft: step 4: " in said and "validation problems right, greedily" in said
    run(recipe, tmp_path / "runs")
    stored = ids(f"{bucket}/runs/tiny")
    assert stored == ids(tmp_path / "runs" / "tiny")
    assert {name.split("/")[0] for name in stored} >= {"sampling", "credit", "evaluation", "training"}
    results = [
        Output(str(root), "", "").read_json("results.json") for root in (f"{bucket}/runs/tiny", tmp_path / "runs/tiny")
    ]
    accuracies = [{name: m["accuracy"]["value"] for name, m in found["methods"].items()} for found in results]
    assert accuracies[0] == accuracies[1] and set(accuracies[0]) == {"base", "sft", "step_dpo"}
    assert status([f"{bucket}/runs/tiny"]) == 0


class _Refuses(BaseHTTPRequestHandler):
    """Storage that knows the bucket and lets nobody in."""

    def _answer(self) -> None:
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

    def log_message(self, *_: object) -> None:
        """The test's output is its own."""


@pytest.fixture
def refusing(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a bucket that may not be touched."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield bucket
    server.shutdown()
    server.server_close()


def test_a_bucket_that_refuses_is_named_before_anything_runs(refusing: str, tmp_path: Path) -> None:
    recipe = load(str(recipe_file(tmp_path, TINY)))
    with pytest.raises(UserError, match=rf"{refusing}/runs/tiny: the run's lock cannot be written: .*Forbidden"):
        run_pipeline(recipe, f"{refusing}/runs/tiny")
    with pytest.raises(UserError, match=rf"{refusing}/runs/tiny: cannot be read: .*ACCESS_DENIED"):
        plan(build(recipe), f"{refusing}/runs/tiny")


def test_a_bucket_that_is_missing_is_named_before_anything_runs(bucket: str, tmp_path: Path) -> None:
    recipe = load(str(recipe_file(tmp_path, TINY)))
    with pytest.raises(UserError, match="s3://missing/runs/tiny: the run's lock cannot be written: .*NoSuchBucket"):
        run_pipeline(recipe, "s3://missing/runs/tiny")
    with pytest.raises(UserError, match="s5://bucket/runs/tiny/?: cannot be reached: "):
        run_pipeline(recipe, "s5://bucket/runs/tiny")
