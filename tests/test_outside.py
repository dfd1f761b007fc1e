"""A method, an engine and a verifier from outside the package, in one module of the user's, through the main job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.runs import recipe_file, run

OUTSIDE = '''
from transformers import AutoTokenizer

from app.datasets.selection import own_example
from app.datasets.settings import SftSettings
from app.methods import Method, register
from app.records import Example, Verdict
from app.sampling.engine import Completion, Engine, check_fits
from app.sampling.meter import Meter
from app.training.settings import TrainSettings


class Dice(Engine):
    """Throws a number in place of an answer."""

    def __init__(self, policy, place):
        self.tokenizer = AutoTokenizer.from_pretrained(policy.path)
        self.context_length, self.meter = place.max_model_len, Meter()

    async def generate(self, request):
        check_fits(request, self.context_length)
        text = f"#### {request.seed % 100}"
        return Completion(tuple(self.tokenizer.encode(text)), text, "stop")


def create(policy, place, revision, trust_remote_code):
    return Dice(policy, place)


class Grader:
    """Even is right, whatever was asked."""

    def fingerprint(self):
        return "even-1"

    def equivalent(self, reference, answer):
        return int(reference) % 2 == int(answer) % 2

    async def judge(self, problem, text, finish_reason):
        number = int(text.split()[-1])
        return Verdict("", "incorrect" if number % 2 else "correct", str(number), "parity", "own", 0.0)


def evens(sources, settings):
    """All right traces."""
    for shard in sources.shards():
        rows = [
            own_example(trace, sources.renderer.prompt(problem.statement), sources.renderer.end_id)
            for problem, samples in sources.judged(shard)
            for trace, verdict in samples
            if verdict.correct
        ]
        yield Example.table(rows), {"examples": len(rows)}


register(Method("evens", "even numbers", "outside:evens", SftSettings, TrainSettings))
'''
RECIPE = {
    "name": "outside",
    "plugins": ["outside"],
    "problems": {"source": {"kind": "world"}, "train": 6, "validation": 2, "test": 5},
    "sampling": {"samples": 4, "max_tokens": 8, "problems_per_shard": 3},
    "verification": {"verifier": "outside:Grader"},
    "training": {"precision": "fp32", "batch": 4, "micro_batch": 4, "steps": 2},
    "runs": {"mine": {"method": "evens", "samples": "base"}},
    "evaluation": {"samples": 0, "max_tokens": 8},
    "placement": {"sampling": {"backend": "outside:create", "max_model_len": 256}},
}


def rows(runs: Path, stage: str) -> list[dict[str, Any]]:
    """What a stage wrote as its parts."""
    files = sorted((runs / "outside" / stage).rglob("part-*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files]).to_pylist()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_they_drive_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outside.py").write_text(OUTSIDE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    said = run(recipe_file(tmp_path, RECIPE), tmp_path / "runs")
    assert "report: " in said
    runs = tmp_path / "runs"
    [card] = (runs / "outside" / "training" / "mine").glob("*/model/README.md")
    assert "trained by even numbers" in card.read_text()
    traces, verdicts = rows(runs, "sampling/base"), rows(runs, "verification/base")
    assert len(traces) == 24 and all(row["text"] == f"#### {row['seed'] % 100}" for row in traces)
    right = {row["trace_id"] for row in verdicts if row["outcome"] == "correct"}
    assert {row["tier"] for row in verdicts} == {"own"}
    assert right == {row["id"] for row in traces if row["seed"] % 2 == 0}
    assert {row["trace_id"] for row in rows(runs, "datasets/mine")} == right
    results = json.loads((runs / "outside" / "results.json").read_text())
    assert set(results["methods"]) == {"base", "mine"}
    answered = rows(runs, "evaluation/mine")
    assert results["methods"]["mine"]["accuracy"]["correct"] == sum(row["seed"] % 2 == 0 for row in answered)
