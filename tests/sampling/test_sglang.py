"""SGLang's engine against a scripted server, started as the real one would be: `python -m sglang.launch_server`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from app.errors import UserError
from app.policy import WORLD_MODEL, Policy
from app.sampling.backends import create
from app.sampling.engine import EngineDead, PromptTooLong, Request
from app.sampling.settings import EnginePlacement
from app.sampling.sglang import SglangEngine, arguments

SERVER = '''
"""Notes its arguments and what it is asked; says what was asked for in the last prompt token."""

import json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOG = os.environ["SCRIPTED_LOG"]


def note(**what):
    with open(LOG, "a") as log:
        log.write(json.dumps(what) + "\\n")


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, {})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        note(path=self.path, body=body)
        if self.path == "/update_weights_from_disk":
            fits = "bad" not in body["model_path"]
            return self.answer(200 if fits else 400, {"success": fits, "message": "shapes differ"})
        kind = body["input_ids"][-1]
        if kind == 500:
            return self.answer(500, {"error": {"message": "out of memory"}})
        if kind == 99:
            os._exit(3)
        reason = {7: {"type": "abort", "message": "full"}}.get(kind, {"type": "length", "length": 2})
        said = {"text": "4 2", "meta_info": {"finish_reason": reason}}
        self.answer(200, said if kind == 8 else said | {"output_ids": [4, 2]})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


note(arguments=sys.argv[1:])
if "stillborn" in sys.argv[2]:
    sys.exit(4)
port = int(sys.argv[sys.argv.index("--port") + 1])
ThreadingHTTPServer(("127.0.0.1", port), Answers).serve_forever()
'''


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the server noted, once it is installed."""
    (tmp_path / "sglang").mkdir()
    (tmp_path / "sglang" / "__init__.py").write_text("")
    (tmp_path / "sglang" / "launch_server.py").write_text(SERVER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("SCRIPTED_LOG", str(tmp_path / "log"))
    return lambda: [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]


def started(path: str = str(WORLD_MODEL), **place: Any) -> SglangEngine:
    engine = create(Policy(path, "f"), EnginePlacement(backend="sglang", **place), None, False)
    assert isinstance(engine, SglangEngine)
    return engine


def asked(engine: SglangEngine, *prompts: tuple[int, ...]) -> list[Any]:
    """What became of each prompt, completions or what was raised; the engine is closed then."""

    async def run() -> list[Any]:
        try:
            requests = [Request(f"r{i}", prompt, 11, 5, 0.5, 0.9, 20, 0.05) for i, prompt in enumerate(prompts)]
            return await asyncio.gather(*map(engine.generate, requests), return_exceptions=True)
        finally:
            await engine.close()

    return asyncio.run(run())


def test_token_ids_go_and_come(noted: Any) -> None:
    engine = started()
    assert engine.context_length == 256  # the model's own
    [done] = asked(engine, (1, 2, 3))
    assert (done.token_ids, done.text, done.finish_reason) == ((4, 2), "4 2", "length")
    assert noted()[1] == {
        "path": "/generate",
        "body": {
            "rid": "r0",
            "input_ids": [1, 2, 3],
            "sampling_params": {
                "max_new_tokens": 5,
                "temperature": 0.5,
                "top_p": 0.9,
                "sampling_seed": 11,
                "top_k": 20,
                "min_p": 0.05,
            },
        },
    }
    assert engine.server and engine.server.returncode is not None


def test_what_cannot_be_served(noted: Any) -> None:
    full, mute, broken, long = asked(started(max_model_len=4), (7,), (8,), (500,), (1, 1, 1, 1))
    assert isinstance(full, RuntimeError) and "r0: SGLang finished it with" in str(full)
    assert isinstance(mute, UserError) and "returns no output_ids" in str(mute)
    assert isinstance(broken, RuntimeError) and "500" in str(broken) and "out of memory" in str(broken)
    assert isinstance(long, PromptTooLong)


def test_a_server_that_is_gone_is_a_dead_engine(noted: Any) -> None:
    [dead] = asked(started(), (99,))
    assert isinstance(dead, EngineDead)


def test_other_weights(noted: Any) -> None:
    engine = started()

    async def run() -> None:
        try:
            await engine.load_weights("/new")
            with pytest.raises(RuntimeError, match="shapes differ"):
                await engine.load_weights("/bad")
            with engine.meter.request(), pytest.raises(RuntimeError, match="1 requests are under way"):
                await engine.load_weights("/newer")
        finally:
            await engine.close()

    asyncio.run(run())
    assert [row["body"] for row in noted()[1:]] == [{"model_path": "/new"}, {"model_path": "/bad"}]


def test_a_server_that_does_not_start(noted: Any) -> None:
    with pytest.raises(RuntimeError, match="ended with code 4"):
        started("stillborn", max_model_len=64)


def test_the_placement_in_its_words() -> None:
    said = " ".join(arguments("m", EnginePlacement(gpus=2, gpu_memory=0.8, enforce_eager=True), 64, 9))
    assert "--tp-size 2" in said and "--mem-fraction-static 0.8" in said and "--disable-cuda-graph" in said
    assert "--context-length 64" in said and "--load-format safetensors" in said and "--device" not in said
    assert "--device cpu" in " ".join(arguments("m", EnginePlacement(), 64, 9))


def test_without_sglang_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.sampling.sglang.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install -e .\[sglang\]"):
        create(Policy("m", "f"), EnginePlacement(backend="sglang"), None, False)


def test_an_adapter_is_refused(noted: Any) -> None:
    with pytest.raises(UserError, match="serves no adapters"):
        create(Policy("m", "f", "folder"), EnginePlacement(backend="sglang"), None, False)
