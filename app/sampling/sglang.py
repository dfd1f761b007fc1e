"""SGLang as an Engine: a server of its own beside the actor (`python -m sglang.launch_server`), asked over HTTP.

    placement: {sampling: {backend: sglang, gpus: 1}}

Its native API is used, for that takes token ids and gives them back. Written after SGLang's documentation
(docs.sglang.io: native APIs, sampling parameters, deterministic inference) and tested against a scripted server; a real
one was not run.
"""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from typing import Any

from openai import APIConnectionError, APIStatusError, AsyncOpenAI

from app.errors import UserError
from app.policy import Policy
from app.sampling.engine import Completion, Engine, EngineDead, Request, check_fits
from app.sampling.meter import Meter
from app.sampling.settings import EnginePlacement

PAUSE = 0.5  # seconds between two looks whether the server answers
PARENT_DIED = 1  # prctl's PR_SET_PDEATHSIG
_libc = ctypes.CDLL(None)  # loaded here: not between fork and exec


class SglangEngine(Engine):
    """Asks one server. Cancelling a request closes its connection, at which the server aborts it.

    Raises EngineDead once the server no longer answers, RuntimeError where it refuses a request.
    """

    def __init__(self, url: str, context_length: int, timeout: float, server: subprocess.Popen[bytes] | None) -> None:
        self.url, self.context_length, self.server = url, context_length, server
        self.meter = Meter()
        self._client = AsyncOpenAI(api_key="none", base_url=url, timeout=timeout, max_retries=0)

    async def generate(self, request: Request) -> Completion:
        """One continuation of a token-id prompt."""
        asked = {
            "max_new_tokens": check_fits(request, self.context_length),
            "temperature": request.temperature,
            "top_p": request.top_p,
            "sampling_seed": request.seed,
            **request.cut,
        }
        with self.meter.request() as span:
            body = {"rid": request.id, "input_ids": list(request.prompt_token_ids), "sampling_params": asked}
            answer = await self._post("/generate", body)
            tokens, reason = self._read(request, answer)
            self.meter.wrote(len(tokens))
        return Completion(tokens, answer["text"], reason, span.seconds)

    async def load_weights(self, path: str) -> None:
        """Serve another checkpoint of the same architecture from now on; the server empties its prefix cache."""
        if self.meter.active:
            raise RuntimeError(f"load_weights({path}) while {self.meter.active} requests are under way")
        answer = await self._post("/update_weights_from_disk", {"model_path": path})
        if not answer.get("success"):
            raise RuntimeError(f"SGLang does not load {path}: {answer.get('message')}")

    async def close(self) -> None:
        """Close the connections, end the server and wait for it."""
        await self._client.close()
        if self.server:
            self.server.terminate()
            self.server.wait()

    def _read(self, request: Request, answer: dict[str, Any]) -> tuple[tuple[int, ...], str]:
        """Tokens and finish reason of an answer."""
        if "output_ids" not in answer:
            raise UserError(
                "SGLang returns no output_ids, which traces need; install a newer one: pip install -U sglang"
            )
        reason = (answer["meta_info"]["finish_reason"] or {}).get("type")
        if reason not in ("stop", "length"):
            raise RuntimeError(f"request {request.id}: SGLang finished it with {answer['meta_info']['finish_reason']}")
        return tuple(answer["output_ids"]), reason

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer: Any = await self._client.post(path, cast_to=object, body=body)
        except APIStatusError as error:
            raise RuntimeError(f"SGLang: {path}: {error.status_code} {error.response.text[:500]}") from None
        except APIConnectionError as error:
            raise EngineDead(f"SGLang's server at {self.url} does not answer: {error.__cause__ or error}") from error
        if not isinstance(answer, dict):
            raise RuntimeError(f"SGLang: {path}: an answer of another shape: {str(answer)[:200]}")
        return answer


def create(policy: Policy, place: EnginePlacement, revision: str | None, trust_remote_code: bool) -> SglangEngine:
    """A server with the policy's weights, once it answers.

    Raises UserError where SGLang is missing or cannot serve what is asked, RuntimeError where it does not start.
    """
    if find_spec("sglang") is None:
        raise UserError("backend sglang of the placement: SGLang is not installed: pip install -e .[sglang]")
    if policy.adapter:
        raise UserError("backend sglang serves no adapters here; train with lora.merge, or use vllm")
    length = place.max_model_len or _context_of(policy.path, revision, trust_remote_code)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "sglang.launch_server", *arguments(policy.path, place, length, port)]
    command += (["--revision", revision] if revision else []) + ["--trust-remote-code"] * trust_remote_code
    server = subprocess.Popen(command, preexec_fn=_end_with_parent)
    url = f"http://127.0.0.1:{port}"
    try:
        _await(server, url, place.stall_seconds)
    except BaseException:
        server.kill()
        server.wait()
        raise
    return SglangEngine(url, length, place.stall_seconds, server)


def arguments(model: str, place: EnginePlacement, length: int, port: int) -> list[str]:
    """What the placement asks for, in the words of `sglang.launch_server`."""
    given: dict[str, Any] = {
        "model-path": model,
        "host": "127.0.0.1",
        "port": port,
        "context-length": length,
        "dtype": place.dtype,
        "max-running-requests": place.max_num_seqs,
        "load-format": "safetensors",  # never a pickle
        "sampling-defaults": "openai",  # sampling is what the recipe says, not what the model's folder suggests
    }
    given |= {"mem-fraction-static": place.memory, "tp-size": max(1, int(place.gpus))} if place.gpus else {}
    given |= {} if place.gpus else {"device": "cpu"}
    flags = ["--enable-deterministic-inference"]  # without it a request's seed is not heeded
    flags += ["--disable-cuda-graph"] * (bool(place.gpus) and place.eager)
    return [part for name, value in given.items() for part in (f"--{name}", str(value))] + flags


def _context_of(path: str, revision: str | None, trust_remote_code: bool) -> int:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=trust_remote_code)
    return int(config.get_text_config().max_position_embeddings)


def _end_with_parent() -> None:
    """In the child: end when the actor does, however that ends."""
    _libc.prctl(PARENT_DIED, signal.SIGKILL)


def _await(server: subprocess.Popen[bytes], url: str, patience: float) -> None:
    """Until the server answers. Raises RuntimeError where it ends first, or takes longer than `patience` seconds."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if server.poll() is not None:
            raise RuntimeError(f"SGLang's server does not start: it ended with code {server.returncode}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(PAUSE)
    raise RuntimeError(f"SGLang's server does not answer after {patience:.0f} s")
