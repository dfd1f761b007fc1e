"""What models take of memory, against models that are there and sizes that are known."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from app.memory import Shape, engine, shape_of, training
from app.policy import WORLD_MODEL
from app.sampling.settings import EnginePlacement
from app.settings import ModelSettings
from app.training.settings import PreferenceSettings, TrainPlacement, TrainSettings
from jobs.run import main

SEVEN = Shape(4096, 11008, 30, 32, 32, 128, 102400, False)  # deepseek-math-7b


def test_the_weights_counted_are_those_of_the_file() -> None:
    shape = shape_of(ModelSettings())
    assert shape
    with safe_open(WORLD_MODEL / "model.safetensors", "np") as file:
        sizes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - it is no mapping
    assert shape.weights == sum(size[0] * (size[1] if len(size) > 1 else 1) for size in sizes)
    assert shape.cache == 2 * 4 * 4 * 32


def test_an_engine_of_7b_says_how_many_sequences_its_gpu_holds() -> None:
    assert SEVEN.weights == pytest.approx(6.91e9, rel=0.01)
    place: dict[str, Any] = {"gpus": 1, "max_model_len": 2048, "max_num_seqs": 512}
    said = engine(SEVEN, EnginePlacement(**place), 80)
    assert "weights 12.9 GiB a GPU, cache 480 KiB a token" in said
    found = re.search(r"room for ([\d,]+) tokens: ([\d,]+) sequences of 2,048 at once, where 512 are asked for", said)
    assert found and int(found[2]) == 63
    smaller = engine(SEVEN, EnginePlacement(**place, quantization="fp8", kv_cache_dtype="fp8"), 80)
    assert "weights 6.4 GiB a GPU, cache 240 KiB a token" in smaller
    assert "does not fit 9 GiB" in engine(SEVEN, EnginePlacement(gpus=1), 10)
    assert "weights 3.2 GiB a GPU, cache 120 KiB" in engine(SEVEN, EnginePlacement(gpus=4), None)


@pytest.mark.parametrize(
    ("settings", "place", "said"),
    [
        ({}, {"zero_stage": 3, "workers": 8}, "weights 1.6, gradients 3.2, optimiser 9.7"),
        ({}, {"zero_stage": 2, "workers": 8}, "weights 12.9, gradients 3.2, optimiser 9.7"),
        ({}, {"zero_stage": 0}, "weights 12.9, gradients 12.9, optimiser 77.2"),
        ({"optimizer": "adamw_8bit"}, {"zero_stage": 0, "gpus": 1}, "optimiser 38.6"),
        ({}, {"zero_stage": 3, "workers": 8, "offload": True}, "optimiser 0.0"),
        ({"lora": {"r": 16}}, {"zero_stage": 2}, "weights 12.9, gradients 0.1, optimiser 0.4"),
        ({"lora": {"r": 16, "quantize": True}}, {"zero_stage": 2}, "weights 3.3"),
    ],
)
def test_a_worker_holds_what_zero_leaves_it(settings: dict[str, Any], place: dict[str, Any], said: str) -> None:
    asked = PreferenceSettings.model_validate({"steps": 1, "micro_batch": 2, **settings})
    assert said in training(SEVEN, asked, TrainPlacement.model_validate(place), 2, None)
    asked = asked.model_copy(update={"gradient_checkpointing": True})
    assert "DOES NOT FIT 1 GiB" in training(SEVEN, asked, TrainPlacement.model_validate(place), 2, 1)


def test_the_plan_says_parameters_and_memory_of_each_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--plan", "--runs", str(tmp_path), "--set", "placement.gpu_gib=80"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^    sampling/sft, rft: 0.\d+M parameters, weights 0.0 GiB a GPU", out, re.MULTILINE)
    assert re.search(r"^    training/sft, rft, dpo, step_dpo, rounds: .* GiB a worker, fits 80 GiB", out, re.MULTILINE)


def test_a_model_that_is_not_here_is_said(tmp_path: Path) -> None:
    assert shape_of(ModelSettings(path="nobody/nothing")) is None
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba", "hidden_size": 4}))
    assert shape_of(ModelSettings(path=str(tmp_path))) is None


SHAPES = {
    "Qwen2.5-1.5B": Shape(1536, 8960, 28, 12, 2, 128, 151936, True),
    "DeepSeek-Math-7B": SEVEN,
    "Qwen3-8B": Shape(4096, 12288, 36, 32, 8, 128, 151936, False),
    "Llama-3.1-70B": Shape(8192, 28672, 80, 64, 8, 128, 128256, False),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_table_of_sizes_is_what_plan_says(name: str) -> None:
    """docs/sizing.md."""
    page = (Path(__file__).parents[1] / "docs" / "sizing.md").read_text()
    [row] = re.findall(rf"^\| {re.escape(name)} \| (.*) \|$", page, re.MULTILINE)
    *trained, weights, room = row.split(" | ")
    ways = [({}, 0, 1), ({}, 2, 8), ({}, 3, 8), ({"r": 16}, 0, 1), ({"r": 16}, 3, 8)]
    for told, (lora, stage, workers) in zip(trained, ways, strict=True):
        body = {"steps": 1, "micro_batch_tokens": 8192, "gradient_checkpointing": True, "lora": lora or None}
        place = TrainPlacement(workers=workers, gpus=1, zero_stage=stage)  # type: ignore[arg-type]
        said = training(SHAPES[name], TrainSettings.model_validate(body), place, 1, None)
        assert f": {float(told.replace(',', '')):.1f} GiB a worker" in said
    said = engine(SHAPES[name], EnginePlacement(gpus=1), 80)
    assert f"weights {weights} GiB" in said and (f"room for {room} tokens" in said or room in said)
