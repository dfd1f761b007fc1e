"""The whole chain on a real pretrained model and real problems, and synthesis through a real endpoint."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.problems.strategies import STRATEGIES
from tests.runs import recipe_file, run
from tests.smollm import GSM8K, model_folder, served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
RECIPE = Path(__file__).parents[1] / "jobs" / "recipes" / "gsm8k_smollm.yaml"


@pytest.fixture(scope="module")
def smollm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("model") / "SmolLM2-135M-Instruct")


@pytest.mark.skipif(not GSM8K.is_dir(), reason="GSM8K is not beside the checkout")
def test_gsm8k_with_smollm(smollm: Path, tmp_path: Path) -> None:
    sets = [f"model.path={smollm}"] + [f"problems.source.{s}={GSM8K / s}.jsonl" for s in ("train", "test")]
    out = run(RECIPE, tmp_path / "runs", *[part for pair in sets for part in ("--set", pair)], timeout=2300)
    folder = tmp_path / "runs" / "gsm8k_smollm"
    results = json.loads((folder / "results.json").read_text())
    assert set(results["methods"]) == {"base", "sft", "rft"}
    traces = pa.concat_tables([pq.read_table(part) for part in sorted(folder.glob("sampling/*/*/part-*.parquet"))])
    assert traces.num_rows == 32 * 4
    assert "RFT" in out
    # The prompt went through the model's chat template, and the model answered in words about numbers.
    texts = traces.column("text").to_pylist()
    assert sum(bool(re.search(r"\d", text)) for text in texts) > len(texts) // 2


@pytest.fixture
def source(tmp_path: Path) -> dict[str, str]:
    """Ten problems of one kind in two files."""
    text = "Tom has {0} apples and buys {1} more at the shop. How many does he have?"
    rows = [{"question": text.format(n, n + 2), "answer": f"#### {2 * n + 2}"} for n in range(5, 15)]
    for name, part in (("train", rows[:8]), ("test", rows[8:])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in part))
    return {"kind": "file", "train": str(tmp_path / "train.jsonl"), "test": str(tmp_path / "test.jsonl")}


def synthesise(
    folder: Path, source: dict[str, str], writer: dict[str, object], model: str = "world", **more: object
) -> dict[str, object]:
    """Manifest of stage synthesis with a writer; every request must be a problem or counted as dropped."""
    recipe = recipe_file(
        folder,
        {
            "name": "written",
            "model": {"path": model},
            "problems": {"source": source},
            "synthesis": {"writer": writer, "count": 12, "max_tokens": 120, "budget": {"attempts": 1}, **more},
            "placement": {"sampling": {"kv_cache_gib": 0.5, "max_model_len": 1024}},
        },
    )
    for stage in ("problems", "synthesis"):
        run(recipe, folder / "runs", "--only", stage)
    manifest = json.loads(next((folder / "runs" / "written" / "synthesis").glob("*/manifest.json")).read_text())
    counts = manifest["counts"]
    dropped = sum(value for name, value in counts.items() if name.startswith("dropped"))
    assert counts["problems"] == counts["attempts"] - dropped == manifest["rows"]
    return manifest


def test_synthesis_through_vllm_serve(smollm: Path, source: dict[str, str], tmp_path: Path) -> None:
    """A 135M model writes few usable problems: what counts is that each request is accounted for."""
    with served(smollm, tmp_path / "serve.log") as url:
        writer = {"kind": "openai", "base_url": url, "model": "writer", "concurrency": 4}
        manifest = synthesise(tmp_path, source, writer)
    assert url not in json.dumps(manifest)


def test_synthesis_by_the_runs_own_vllm_with_every_strategy(
    smollm: Path, source: dict[str, str], tmp_path: Path
) -> None:
    """The policy that `from_failures` asks is the same small model; cut short, it fails at most of these seeds."""
    manifest = synthesise(
        tmp_path,
        source,
        {"kind": "vllm", "weights": {"path": str(smollm)}},
        model=str(smollm),
        count=28,
        strategies=dict.fromkeys(STRATEGIES, 1),
        vote={"solutions": 3, "agreement": 0.6},
        difficulty={"rollouts": 2, "max_tokens": 48},
    )
    assert str(smollm) not in json.dumps(manifest["settings"])
    told = json.loads(next((tmp_path / "runs" / "written" / "synthesis").glob("*/yield.json")).read_text())
    assert set(told["by_strategy"]) == set(STRATEGIES)
    assert sum(sum(ends.values()) for ends in told["by_strategy"].values()) == told["attempts"]
