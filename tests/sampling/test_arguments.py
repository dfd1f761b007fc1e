"""What a placement becomes in vLLM's words, and what importing the engine's client does not import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.sampling.settings import EnginePlacement
from app.sampling.vllm import GIB, cpu_environment, engine_arguments


def test_a_cpu_engine_gets_memory_in_bytes_and_no_gpu_settings() -> None:
    found = engine_arguments(EnginePlacement(kv_cache_gib=0.5, max_num_seqs=7))
    assert (found["kv_cache_memory_bytes"], found["max_num_seqs"]) == (GIB // 2, 7)
    assert not {"gpu_memory_utilization", "tensor_parallel_size", "enable_lora"} & found.keys()
    assert cpu_environment(EnginePlacement(threads=3))["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize(("gpus", "parallel", "memory"), [(0.5, 1, 0.2), (0.25, 1, 0.1), (1, 1, 0.4), (4, 4, 0.4)])
def test_gpus_above_one_are_tensor_parallel_and_shared_ones_share_memory(
    gpus: float, parallel: int, memory: float
) -> None:
    found = engine_arguments(EnginePlacement(gpus=gpus, gpu_memory=0.4))
    assert (found["tensor_parallel_size"], found["gpu_memory_utilization"]) == (parallel, memory)
    assert not {"kv_cache_memory_bytes", "enable_chunked_prefill", "block_size"} & found.keys()


@pytest.mark.parametrize(
    ("asked", "eager"), [({}, True), ({"gpus": 1}, False), ({"gpus": 1, "enforce_eager": True}, True)]
)
def test_cuda_graphs_are_used_where_there_are_gpus(asked: dict[str, Any], eager: bool) -> None:
    assert engine_arguments(EnginePlacement(**asked))["enforce_eager"] is eager
    assert engine_arguments(EnginePlacement(enforce_eager=False))["enforce_eager"] is False


def test_arguments_are_plain_json_and_known_to_vllm(tmp_path: Path) -> None:
    """They cross to another process as JSON; a name that vLLM does not know would only fail there."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 16}))
    given = engine_arguments(EnginePlacement(gpus=1), str(tmp_path)) | engine_arguments(EnginePlacement())
    assert (given["enable_lora"], given["max_lora_rank"]) == (True, 16)
    assert json.loads(json.dumps(given)) == given
    source = Path(sys.prefix, "lib", f"python3.{sys.version_info[1]}", "site-packages/vllm/engine/arg_utils.py")
    text = source.read_text()
    assert all(f"    {name}:" in text for name in given)


def test_the_actor_imports_neither_vllm_nor_torch_for_its_engine() -> None:
    code = "import sys, app.sampling.vllm; print([m for m in ('vllm', 'torch', 'transformers') if m in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
