"""What a placement becomes in vLLM's words, and what importing the engine's client does not import."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.sampling.engine_args import OURS, names
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


def test_knobs_reach_vllm_under_its_names() -> None:
    place = EnginePlacement.model_validate(
        {
            "gpus": 1,
            "max_model_len": 2048,
            "chunked_prefill": False,
            "cuda_graph_sizes": [1, 8, 64],
            "kv_cache_dtype": "fp8",
            "quantization": "fp8",
            "speculative": {"tokens": 4, "lookup": 3},
            "engine_args": {"attention_backend": "FLASH_ATTN", "seed": 3},
        }
    )
    found = engine_arguments(place)
    assert found["cudagraph_capture_sizes"] == [1, 8, 64]
    assert (found["kv_cache_dtype"], found["quantization"], found["enable_chunked_prefill"]) == ("fp8", "fp8", False)
    assert found["speculative_config"] == {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 3}
    assert (found["attention_backend"], found["seed"]) == ("FLASH_ATTN", 3)
    assert found["max_num_batched_tokens"] == 8192
    drafted = EnginePlacement.model_validate({"gpus": 1, "speculative": {"tokens": 2, "model": "small"}})
    assert engine_arguments(drafted)["speculative_config"]["model"] == "small"
    known = names()
    assert known and found.keys() <= known


@pytest.mark.parametrize(
    ("asked", "tokens"),
    [
        ({}, None),
        ({"max_num_batched_tokens": 512}, 512),
        ({"gpus": 1}, 8192),
        ({"gpus": 1, "max_num_batched_tokens": 4096}, 4096),
        ({"gpus": 1, "max_num_seqs": 16000}, 16000),
        ({"gpus": 1, "max_model_len": 32768}, 8192),
        ({"gpus": 1, "max_model_len": 32768, "chunked_prefill": False}, 32768),
    ],
)
def test_a_step_on_a_gpu_reads_enough(asked: dict[str, Any], tokens: int | None) -> None:
    assert engine_arguments(EnginePlacement(**asked)).get("max_num_batched_tokens") == tokens


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"kv_cache_dtype": "fp8"}, "kv_cache_dtype: only on GPUs"),
        ({"quantization": "fp8"}, "quantization: only on GPUs"),
        ({"chunked_prefill": True}, "chunked_prefill: only on GPUs"),
        ({"cuda_graph_sizes": [8]}, "cuda_graph_sizes: only on GPUs"),
        ({"gpus": 1, "cuda_graph_sizes": [8], "enforce_eager": True}, "enforce_eager records no graphs"),
        ({"gpus": 1, "backend": "sglang", "quantization": "fp8"}, "quantization: only with backend vllm"),
        ({"gpus": 1, "backend": "sglang", "engine_args": {"seed": 1}}, "engine_args: only with backend vllm"),
        ({"max_num_batched_tokens": 100}, "max_num_batched_tokens: at least max_num_seqs"),
        ({"max_num_batched_tokens": 300, "max_model_len": 512}, "at least max_model_len"),
        ({"engine_args": {"max_num_seqs": 3}}, "max_num_seqs: set max_num_seqs for it"),
        ({"engine_args": {"gpu_memory_utilization": 1}}, "gpu_memory_utilization: set gpu_memory for it"),
        ({"engine_args": {"load_format": "pt"}}, "load_format: the engine sets it itself"),
        ({"engine_args": {"attention_backed": "X"}}, "attention_backed: vLLM has no such argument (did you mean"),
        ({"gpus": 1, "speculative": {}}, "tokens"),
        ({"speculative": {"tokens": 3}}, "speculative: only on GPUs"),
    ],
)
def test_knobs_without_effect_are_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(said)):
        EnginePlacement(**asked)


def test_every_argument_that_is_ours_is_one_of_vllms() -> None:
    known = names()
    assert known and OURS.keys() <= known


def test_the_actor_imports_neither_vllm_nor_torch_for_its_engine() -> None:
    code = "import sys, app.sampling.vllm; print([m for m in ('vllm', 'torch', 'transformers') if m in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
