"""Verifiers that a recipe may choose: the built-in one, Math-Verify, a class of the user's own, a model as judge."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.errors import UserError
from app.graph import build
from app.plan import keys_of
from app.recipe import Recipe
from app.records import Problem, Verdict
from app.verification.llm import LlmVerifier
from app.verification.settings import LlmJudge, VerificationSettings
from app.verification.verifier import BuiltIn, verdicts, verifier_of
from tests.runs import TINY, recipe_file, run
from tests.smollm import model_folder, served

PROBLEM = Problem("p", "How many?", "72", "train", "made-up")
OWN = """
from app.records import Verdict


class Grader:
    def __init__(self, mark="####"):
        self.mark = mark

    def fingerprint(self):
        return f"last-word-1 {self.mark}"

    def equivalent(self, reference, answer):
        return reference == answer

    async def judge(self, problem, text, finish_reason):
        said = text.rpartition(self.mark)[2].strip()
        return Verdict("", "correct" if said == problem.answer else "incorrect", said, "last-word", "own", 0.0)
"""


def judged(settings: VerificationSettings, *texts: str, ending: str | None = "stop") -> list[Verdict]:
    verifier = verifier_of(settings)
    return asyncio.run(verdicts(verifier, [PROBLEM] * len(texts), texts, [ending] * len(texts)))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_grader.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_built_in_one_is_the_default() -> None:
    found = judged(VerificationSettings(), "#### 72", "#### 71", "no idea")
    assert [v.outcome for v in found] == ["correct", "incorrect", "unparsed"]


def test_a_class_of_the_users_own(own: Path) -> None:
    settings = VerificationSettings(verifier="my_grader:Grader", options={"mark": "=>"})
    assert [v.outcome for v in judged(settings, "=> 72", "=> 71")] == ["correct", "incorrect"]
    assert verifier_of(settings).fingerprint() == "last-word-1 =>"


def test_math_verify_by_its_adapter() -> None:
    pytest.importorskip("math_verify")
    settings = VerificationSettings(verifier="math-verify")
    found = judged(settings, r"So it is $\boxed{72}$.", r"\boxed{71}", "no idea")
    assert [v.outcome for v in found] == ["correct", "incorrect", "unparsed"]
    assert verifier_of(settings).equivalent("1/2", "0.5") and not verifier_of(settings).equivalent("1/2", "0.4")


@pytest.mark.parametrize("verifier", ["built-in", "math-verify", "my_grader:Grader"])
def test_a_cut_trace_has_no_answer_whoever_judges(own: Path, verifier: str) -> None:
    if verifier == "math-verify":
        pytest.importorskip("math_verify")
    [found] = judged(VerificationSettings(verifier=verifier), "#### 72", ending="length")
    assert (found.outcome, found.reason) == ("unparsed", "unfinished")


@pytest.mark.parametrize(
    ("verifier", "says"),
    [
        ("no_such:Grader", "cannot be made"),
        ("my_grader:Nobody", "cannot be made"),
        ("pathlib:Path", r"must have fingerprint\(\), equivalent\(\) and judge\(\)"),
    ],
)
def test_a_verifier_that_is_none(own: Path, verifier: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        verifier_of(VerificationSettings(verifier=verifier))


def test_a_verifier_that_fails_is_not_the_traces_fault() -> None:

    class Raises:
        def fingerprint(self) -> str:
            return "x"

        def equivalent(self, reference: str, answer: str) -> bool:
            return False

        async def judge(self, problem: Problem, text: str, finish_reason: str | None) -> Verdict:
            raise ValueError("no table for this")

    with pytest.raises(UserError) as caught:
        asyncio.run(verdicts(Raises(), [PROBLEM], ["#### 72"], ["stop"]))
    assert "Raises.judge failed on a trace of problem p" in str(caught.value)


def test_another_verifier_is_another_key_of_what_it_judges_and_of_nothing_before(own: Path) -> None:
    def keys(**verification: Any) -> dict[str, str]:
        return keys_of(build(Recipe.model_validate(TINY | {"verification": verification})))

    before, after = keys(), keys(verifier="my_grader:Grader")
    changed = {name for name in before if before[name] != after[name]}
    assert {"verification/sft", "credit/sft", "datasets/step_dpo", "evaluation/base", "report"} <= changed
    assert not {"problems", "synthesis", "training/sft", "sampling/sft"} & changed


# -- a model as judge -------------------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """Answers chat requests by `says(prompt)`, after a pause; counts them. `down` refuses the first so many."""

    def __init__(self, says: Any, pause: float = 0.0, down: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.says, self.pause, self.down = says, pause, down
        self.prompts: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.down:
            self.server.down -= 1
            self.reply(503, {"error": {"message": "down"}})
            return
        prompt = body["messages"][0]["content"]
        self.server.prompts.append(prompt)
        time.sleep(self.server.pause)
        message = {"role": "assistant", "content": self.server.says(prompt)}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        usage = {"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100}
        self.reply(
            200,
            {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": choices, "usage": usage},
        )

    def reply(self, code: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Retry-After-Ms", "1")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """The test's output is its own."""


@pytest.fixture
def serve() -> Iterator[Any]:
    servers: list[Server] = []

    def start(says: Any, **how: Any) -> Server:
        server = Server(says, **how)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def same(prompt: str) -> str:
    """Right where both of the answers hold a 72."""
    answers = prompt.partition("First answer:")[2]
    return "SAME" if answers.count("72") == 2 else "DIFFERENT"


def asked(server: Server, *texts: str, **more: Any) -> list[Verdict]:
    llm = {"base_url": server.url, "model": "m", "when": "always", **more}
    return judged(VerificationSettings(llm=LlmJudge.model_validate(llm)), *texts)


def test_a_model_is_asked_in_both_orders_and_once_for_equal_traces(serve: Any) -> None:
    server = serve(same)
    found = asked(server, "it is 72", "it is 71", "it is 72", "it is 72")
    assert [v.outcome for v in found] == ["correct", "incorrect", "correct", "correct"]
    assert len(server.prompts) == 4
    first = [prompt.partition("First answer:\n")[2].partition("\n")[0] for prompt in server.prompts]
    assert sorted(first) == ["72", "72", "it is 71", "it is 72"]


def test_a_model_is_asked_only_what_cannot_be_read(serve: Any) -> None:
    server = serve(same)
    found = asked(server, "#### 72", "#### 71", "seventy-two, that is 72 of them I would say, or so", when="unread")
    assert [v.outcome for v in found] == ["correct", "incorrect", "correct"]
    assert len(server.prompts) == 2 and found[2].tier == "llm"


@pytest.mark.parametrize(
    "says",
    [
        lambda prompt: "I cannot tell.",
        lambda prompt: "SAME, or rather DIFFERENT",
        lambda prompt: "SAME" if prompt.partition("First answer:\n")[2].startswith("72") else "DIFFERENT",
    ],
)
def test_a_reply_that_says_nothing_counts_neither_right_nor_wrong(serve: Any, says: Any) -> None:
    [found] = asked(serve(says), "it is 72")
    assert (found.outcome, found.reason) == ("error", "judge-undecided")


def test_a_server_that_was_down_is_asked_again(serve: Any) -> None:
    assert [v.outcome for v in asked(serve(same, down=2), "it is 72")] == ["correct"]


def test_a_server_that_stays_away_stops_the_stage(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.verification.llm.RETRIES", 1)
    for how in ({"down": 99}, {"pause": 1.0}):
        with pytest.raises(UserError) as caught:
            asked(serve(same, **how), "it is 72", timeout=0.2)
        told = str(caught.value)
        assert "verification.llm: http" in told and "model m" in told


def test_a_budget_ends_the_asking(serve: Any) -> None:
    server = serve(same)
    with pytest.raises(UserError) as caught:
        asked(server, *(f"it is {n}" for n in range(20)), tokens=300, concurrency=1)
    assert "the budget of 300 tokens is spent" in str(caught.value)
    assert len(server.prompts) == 3


def test_what_a_model_decides_is_in_the_key_and_its_address_is_not() -> None:
    def key(**more: Any) -> str:
        settings = {"base_url": "http://here/v1", "model": "m", **more}
        return LlmVerifier(LlmJudge.model_validate(settings), BuiltIn()).fingerprint()

    assert key() == key(base_url="http://there/v1", concurrency=2)
    assert len({key(), key(model="n"), key(when="always"), BuiltIn().fingerprint()}) == 4


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("verifier", ["my_grader:Grader", "math-verify"])
def test_another_verifier_drives_a_whole_run(own: Path, monkeypatch: pytest.MonkeyPatch, verifier: str) -> None:
    monkeypatch.setenv("PYTHONPATH", str(own))
    said = run(recipe_file(own, TINY | {"verification": {"verifier": verifier}}), own / "runs")
    assert "report: " in said


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_model_as_judge_drives_a_whole_run(serve: Any, tmp_path: Path) -> None:
    def last_number(prompt: str) -> str:
        first, second = prompt.partition("First answer:\n")[2].split("\n\nSecond answer:\n")
        numbers = [part.partition("\n\nReply")[0].strip().split()[-1:] for part in (first, second)]
        return "SAME" if numbers[0] == numbers[1] else "DIFFERENT"

    server = serve(last_number)
    llm = {"base_url": server.url, "model": "m", "when": "always"}
    said = run(recipe_file(tmp_path, TINY | {"verification": {"llm": llm}}), tmp_path / "runs")
    assert "report: " in said and len(server.prompts) > 50


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_served_model_as_judge_drives_a_whole_run(tmp_path: Path) -> None:
    """SmolLM2 behind vLLM's server: what 135M parameters do not decide is no verdict."""
    model = model_folder(tmp_path / "SmolLM2-135M-Instruct")
    with served(model, tmp_path / "serve.log") as url:
        llm = {"base_url": url, "model": "writer", "when": "always"}
        runs = {"sft": TINY["runs"]["sft"], "rft": TINY["runs"]["sft"] | {"method": "rft", "samples": "sft"}}  # type: ignore[index]
        sampling = {"samples": 2, "max_tokens": 64, "problems_per_shard": 20}
        few = {"synthesis": {"count": 12}, "problems": TINY["problems"] | {"test": 4}}  # type: ignore[operator]
        recipe = recipe_file(tmp_path, TINY | few | {"verification": {"llm": llm}, "runs": runs, "sampling": sampling})
        assert "report: " in run(recipe, tmp_path / "runs")
    answered = (tmp_path / "serve.log").read_text(errors="replace").count('POST /v1/chat/completions HTTP/1.1" 200')
    parts = sorted((tmp_path / "runs").glob("tiny/verification/*/*/part-*.parquet"))
    verdicts = pa.concat_tables([pq.read_table(part) for part in parts]).to_pylist()
    assert len(verdicts) == 12 * 2 and answered > 12
    assert {row["tier"] for row in verdicts} == {"llm"}
    assert {row["reason"] for row in verdicts} <= {"judge-same", "judge-different", "judge-undecided"}
