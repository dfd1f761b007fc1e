"""Names of vLLM's own engine arguments, read from its source: importing vLLM takes seconds."""

from __future__ import annotations

import ast
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from app.errors import nearest

# What the engine sets itself, and the key that says so (none: nothing does).
OURS = {
    "model": "the policy",
    "tokenizer": "the policy",
    "revision": "model.revision",
    "tokenizer_revision": "model.revision",
    "trust_remote_code": "model.trust_remote_code",
    "dtype": "dtype",
    "enforce_eager": "enforce_eager",
    "max_num_seqs": "max_num_seqs",
    "max_model_len": "max_model_len",
    "max_num_batched_tokens": "max_num_batched_tokens",
    "gpu_memory_utilization": "gpu_memory",
    "tensor_parallel_size": "gpus",
    "kv_cache_memory_bytes": "kv_cache_gib",
    "kv_cache_dtype": "kv_cache_dtype",
    "quantization": "quantization",
    "speculative_config": "speculative",
    "cudagraph_capture_sizes": "cuda_graph_sizes",
    "enable_chunked_prefill": "chunked_prefill",
    "load_format": "",
    "enable_prefix_caching": "",
    "worker_extension_cls": "",
    "disable_log_stats": "",
    "generation_config": "",
    "enable_lora": "",
    "max_loras": "",
    "max_lora_rank": "",
    "skip_tokenizer_init": "",
}


@lru_cache
def names() -> frozenset[str] | None:
    """Fields of vLLM's EngineArgs; None where vLLM is not installed."""
    found = find_spec("vllm")
    if found is None or not found.submodule_search_locations:
        return None
    source = Path(next(iter(found.submodule_search_locations)), "engine", "arg_utils.py")
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == "EngineArgs":
            fields = (one.target for one in node.body if isinstance(one, ast.AnnAssign))
            return frozenset(one.id for one in fields if isinstance(one, ast.Name))
    raise RuntimeError(f"{source}: no class EngineArgs; this vLLM is one that the tool does not know")


def check(given: dict[str, Any]) -> None:
    """Raise ValueError where an argument is set elsewhere, or where the vLLM that is installed here has none of it."""
    for name in given:
        if name in OURS:
            told = f"set {OURS[name]} for it" if OURS[name] else "the engine sets it itself; leave it out"
            raise ValueError(f"{name}: {told}")
        known = names()
        if known is not None and name not in known:
            raise ValueError(f"{name}: vLLM has no such argument{nearest(name, sorted(known - OURS.keys()))}")
