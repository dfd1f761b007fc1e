"""The viewer over the files of a run: what its lists and traces say, and who may read them."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.credit.stage import CreditWorker
from app.datasets.pairs import Texts, pits, step_pairs
from app.datasets.settings import StepDpoSettings
from app.errors import UserError
from app.judged import judged_shard
from app.records import PreferencePair, StepValue, Trace, Verdict
from app.store import Output
from app.tokens import TokenText
from app.view import server
from app.view.runs import RunView
from tests.credit import student as world

TOKEN = "secret"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the student: samples, verdicts, step values and pairs, as the stages leave them."""
    folder = tmp_path_factory.mktemp("view") / "made"
    with pytest.MonkeyPatch.context() as patch:
        made = world.problems()
        student = world.Student(made, world.renderer())
        patch.setattr("app.sampling.stage.create", lambda *args, **kwargs: student)
        found = asyncio.run(world.sampled(folder.with_name("source"), student, made, world.recipe()))
        outputs = {
            "problems": Output(str(folder), "problems", "k"),
            "sampling": Output(str(folder), "sampling/base", "k"),
            "verification": Output(str(folder), "verification/base", "k"),
            "credit": Output(str(folder), "credit/base", "k"),
        }
        for kind in found:
            for index in found[kind].done_shards():
                outputs[kind].write_shard(index, found[kind].read_shard(index))
        worker = world.credit_worker(world.recipe(), outputs, outputs["credit"])
        asyncio.run(worker.process(0))
    pairs = Output(str(folder), "datasets/step_dpo", "k")
    pairs.write_shard(0, PreferencePair.table(_pairs(outputs, worker)))
    for kind, output in (*outputs.items(), ("pairs", pairs)):
        reads = {} if kind == "problems" else {"problems": "k", "sampling": "k"}
        output.finish({"finished": "2026-01-01", "inputs": reads, "folders": {"problems": "problems"}})
    for name in HELD_OUT:
        _evaluation(folder, name, outputs["sampling"])
    return folder


HELD_OUT = {"base": ("incorrect", "correct", "incorrect"), "dpo": ("correct", "incorrect", "incorrect")}


def _evaluation(folder: Path, policy: str, sampling: Output) -> None:
    """Greedy answers of a policy to three problems, as HELD_OUT judges them, and a drawn one beside each."""
    samples = [t for t in Trace.from_table(sampling.read_shard(0)) if t.sample < 2][:6]
    traces = [replace(trace, id=f"{policy}-{trace.id}") for trace in samples]
    said = dict(zip(dict.fromkeys(t.problem_id for t in traces), HELD_OUT[policy], strict=True))
    outcomes = [said[t.problem_id] if t.sample == 0 else "correct" for t in traces]
    verdicts = [Verdict(t.id, o, "1", o, "t", 0.0) for t, o in zip(traces, outcomes, strict=True)]
    output = Output(str(folder), f"evaluation/{policy}", "k")
    output.write_shard(0, Verdict.table(verdicts), kind="verdicts")
    output.write_shard(0, Trace.table(traces))
    output.finish({"finished": "2026-01-01", "inputs": {"problems": "k"}, "folders": {"problems": "problems"}})


def _pairs(outputs: dict[str, Output], worker: CreditWorker) -> list[PreferencePair]:
    credit = outputs["credit"]
    values = StepValue.from_table(credit.read_shard(0))
    samples = judged_shard(outputs["sampling"], outputs["verification"], 0)
    rollouts = judged_shard(credit, credit, 0, "rollouts", "verdicts")
    texts = Texts(TokenText(worker.renderer.decode), worker.renderer.end_id, "")
    out = []
    for name, rows in samples.items():
        found = pits([trace for trace, _ in rows], [v for v in values if v.problem_id == name], 0.0)
        out += step_pairs(found, rows, rollouts.get(name, []), StepDpoSettings(), 0, texts)
    return out


@pytest.fixture
def client(root: Path) -> TestClient:
    browser = TestClient(server.application({"made": RunView(str(root))}, TOKEN))
    browser.get("/", params={"token": TOKEN})  # which leaves the cookie
    return browser


def listed(client: TestClient, **asked: Any) -> dict[str, Any]:
    answer = client.get("/api/traces/made/base", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_every_trace_is_there_and_filters_agree_with_the_files(client: TestClient, root: Path) -> None:
    verdicts = Verdict.from_table(Output(str(root), "verification/base", "k").read())
    values = StepValue.from_table(Output(str(root), "credit/base", "k").read())
    wrong = sum(verdict.outcome == "incorrect" for verdict in verdicts)
    pitted = {value.trace_id for value in values if value.first_pit}
    assert listed(client)["total"] == len(verdicts) and len(listed(client)["rows"]) == min(100, len(verdicts))
    assert listed(client, outcome="incorrect")["total"] == wrong > 0
    assert listed(client, pit="1")["total"] == len(pitted) > 0
    assert listed(client, finish="length")["total"] == 0
    assert all(row["pit"] for row in listed(client, sort="pit")["rows"][: len(pitted)])
    assert listed(client, start=len(verdicts) - 2)["rows"][-1] == listed(client)["rows"][-1] or len(verdicts) > 100
    about = client.get("/api/runs").json()["made"]
    base = about["samples"]["base"]
    assert base["pits"] == len(pitted) and "incorrect" in base["outcomes"]
    for reason in base["reasons"]:
        assert listed(client, reason=reason)["total"] == sum(verdict.reason == reason for verdict in verdicts)


def test_words_are_looked_for_in_the_texts(client: TestClient, root: Path) -> None:
    texts = Output(str(root), "sampling/base", "k").read(["text"])["text"].to_pylist()
    word = texts[3].splitlines()[0]
    assert listed(client, words=word)["total"] == sum(word in text for text in texts)


def test_a_trace_tells_each_step_its_value_or_why_it_has_none(client: TestClient) -> None:
    row = listed(client, pit="1")["rows"][0]
    trace = client.get(f"/api/trace/made/base/{row['shard']}/{row['row']}").json()
    assert "".join(step["text"] for step in trace["steps"]) == trace["text"]
    assert sum(step["first_pit"] for step in trace["steps"]) == 1
    assert all((step["q"] is None) == bool(step["why"]) for step in trace["steps"])
    assert trace["verdict"]["outcome"] == "incorrect" and row["row"] in trace["siblings"]


def test_pairs_of_a_trace_are_shown_with_its_side(client: TestClient) -> None:
    sides = []
    for row in listed(client, pit="1")["rows"]:
        trace = client.get(f"/api/trace/made/base/{row['shard']}/{row['row']}").json()
        sides += [(pair["set"], pair["side"]) for pair in trace["pairs"]]
    assert sides and set(sides) == {("step_dpo", "rejected")}


def test_a_trace_that_credit_left_out_says_why(client: TestClient) -> None:
    row = next(row for row in listed(client, outcome="correct")["rows"] if not row["valued"])
    trace = client.get(f"/api/trace/made/base/{row['shard']}/{row['row']}").json()
    assert trace["steps"] == [] and "credit.correct_traces" in trace["unvalued"]


def test_held_out_answers_are_found_by_who_is_right(client: TestClient) -> None:
    def held_out(**asked: str) -> list[dict[str, Any]]:
        return client.get("/api/traces/made/held-out, dpo", params=asked).json()["rows"]

    greedy = [row for row in held_out() if row["sample"] == 0]
    assert len(held_out()) == 6 and tuple(row["outcome"] for row in greedy) == HELD_OUT["dpo"]
    assert held_out(against="won:made/held-out, base") == greedy[:1]
    assert held_out(against="lost:made/held-out, base") == greedy[1:2]
    assert held_out(against="lost:made/held-out, base", outcome="correct") == []
    trace = client.get(f"/api/trace/made/held-out, dpo/0/{greedy[0]['row']}").json()
    [answer] = trace["answers"]
    assert answer["run"] == "made"
    assert (answer["samples"], answer["outcome"], answer["sample"]) == ("held-out, base", "incorrect", 0)
    assert answer["problem"] == trace["problem"]["id"] and trace["verdict"]["outcome"] == "correct"


def test_answers_of_two_runs_are_set_against_each_other(root: Path) -> None:
    browser = TestClient(server.application({"one": RunView(str(root)), "two": RunView(str(root))}, TOKEN))
    asked = {"token": TOKEN, "against": "won:two/held-out, base"}
    rows = browser.get("/api/traces/one/held-out, dpo", params=asked).json()["rows"]
    assert [row["outcome"] for row in rows] == ["correct"]
    trace = browser.get(f"/api/trace/one/held-out, dpo/0/{rows[0]['row']}").json()
    told = {(answer["run"], answer["samples"]): answer["outcome"] for answer in trace["answers"]}
    assert told[("two", "held-out, dpo")] == "correct" and told[("two", "held-out, base")] == "incorrect"
    assert ("one", "held-out, dpo") not in told and len(told) == 3
    with pytest.raises(UserError, match="there is another run called made"):
        server.serve([str(root), str(root)], 0, print)


def test_rollouts_of_a_step_are_those_that_its_value_counts(client: TestClient) -> None:
    row = listed(client, pit="1")["rows"][0]
    place = f"{row['shard']}/{row['row']}"
    steps = client.get(f"/api/trace/made/base/{place}").json()["steps"]
    seen = [step for step in steps if step["judged"] and step["low"] < step["high"]]
    for step in seen:
        rolled = client.get(f"/api/rollouts/made/base/{place}/{step['step']}").json()
        assert len(rolled) == step["judged"]
        assert sum(one["outcome"] == "correct" for one in rolled) == step["correct"]
    assert seen and client.get(f"/api/rollouts/made/base/{place}/99").status_code == 404


def test_plots_agree_with_the_files(client: TestClient, root: Path) -> None:
    values = StepValue.from_table(Output(str(root), "credit/base", "k").read())
    outcomes = {v.trace_id: v.outcome for v in Verdict.from_table(Output(str(root), "verification/base", "k").read())}
    found = client.get("/api/plots/made/base").json()
    steps = {value.trace_id: value.step for value in sorted(values, key=lambda value: value.step)}
    late = [v for v in values if v.step and v.q is not None and v.step == steps[v.trace_id] and not v.right]
    assert found["values"]["wrong"][-1] == pytest.approx(sum(v.q or 0 for v in late) / len(late))
    assert sum(found["valued"]["wrong"]) == sum(v.q is not None and v.step > 0 and not v.right for v in values)
    early = sum(v.first_pit and 10 * v.step <= steps[v.trace_id] for v in values)
    assert sum(found["pits"]) == sum(v.first_pit for v in values) and found["pits"][0] == early
    assert sum(found["advantages"]["wrong"]) == sum(v.advantage is not None and not v.right for v in values)
    shares = defaultdict[str, list[bool]](list)
    for trace in Trace.from_table(Output(str(root), "sampling/base", "k").read()):
        shares[trace.problem_id].append(outcomes[trace.id] == "correct")
    assert sum(found["problems"]) == len(shares)
    never = {name for name, each in shares.items() if not any(each)}
    kinds = {"none": never, "all": {name for name, each in shares.items() if all(each)}}
    kinds["some"] = set(shares) - never - kinds["all"]
    for kind, names in kinds.items():
        assert listed(client, solved=kind)["total"] == sum(len(shares[name]) for name in names)
    assert kinds["some"]
    assert len(found["problems"]) == min(max(map(len, shares.values())) + 1, 10)
    assert (found["problems"][0], found["problems"][-1]) == (len(never), len(kinds["all"]))


def test_training_curves_are_those_of_the_newest_training(client: TestClient, root: Path) -> None:
    rows = [{"step": n, "loss": 1 / n, "margin": 0.1 * n, "tokens": 9} for n in range(1, 1001)]
    output = Output(str(root), "training/dpo", "k")
    output.local().mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (output.local() / "metrics.jsonl").write_text(text + '{"step": 1001, "lo')  # as it is being written
    curve = client.get("/api/curves/made").json()["dpo"]
    assert set(curve) == {"step", "loss", "margin"} and len(curve["step"]) <= 400
    assert (curve["step"][0], curve["loss"][0]) == (1, 1.0)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/view.js",
        "/plots.js",
        "/api/runs",
        "/api/plots/made/base",
        "/api/curves/made",
        "/api/trace/made/base/0/0",
        "/report/made",
    ],
)
def test_nothing_without_the_token(path: str, root: Path) -> None:
    stranger = TestClient(server.application({"made": RunView(str(root))}, TOKEN))
    assert stranger.get(path).status_code == 403
    assert stranger.get(path, params={"token": "guess"}).status_code == 403
    assert "made" not in stranger.get(path).text


def test_the_cookie_opens_the_rest_and_markup_stays_text(root: Path) -> None:
    browser = TestClient(server.application({"made": RunView(str(root))}, TOKEN))
    page = browser.get("/", params={"token": TOKEN})
    assert page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    script = browser.get("/view.js").text
    assert "innerHTML =" not in script and "insertAdjacentHTML" not in script
    assert browser.get("/api/trace/made/base/99/0").status_code == 404
    assert browser.get("/api/traces/other/base").status_code == 404


def test_a_folder_without_samples_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no sampled traces there yet"):
        RunView(str(tmp_path))
    with pytest.raises(UserError, match="no such run"):
        RunView(str(tmp_path / "none"))


def test_a_run_that_goes_on_shows_what_is_there(root: Path, tmp_path: Path) -> None:
    output, source = Output(str(tmp_path / "live"), "sampling/base", "k"), Output(str(root), "sampling/base", "k")
    output.write_shard(0, source.read_shard(0))
    Output(str(tmp_path / "live"), "problems", "k").write_shard(0, Output(str(root), "problems", "k").read_shard(0))
    view = RunView(str(tmp_path / "live"))
    assert view.samples["base"].one(0, 0)["verdict"] is None
    assert json.dumps(view.about())
    browser = TestClient(server.application({"live": view}, TOKEN))
    before = browser.get("/api/runs", params={"token": TOKEN}).json()["live"]["samples"]["base"]["traces"]
    output.write_shard(1, source.read_shard(1))
    after = browser.get("/api/runs").json()["live"]["samples"]["base"]["traces"]
    assert after == before + source.read_shard(1).num_rows


@pytest.fixture
def address(root: Path) -> Iterator[str]:
    """The viewer of that run, served."""
    said: list[str] = []
    told = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        told.set()

    threading.Thread(target=server.serve, args=([str(root)], 0, say), daemon=True).start()
    assert told.wait(60)
    yield said[0]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
@pytest.mark.parametrize("width", [1400, 390])
def test_a_browser_shows_a_trace_with_its_steps(address: str, client: TestClient, width: int, tmp_path: Path) -> None:
    row = listed(client, pit="1")["rows"][0]
    trace = client.get(f"/api/trace/made/base/{row['shard']}/{row['row']}").json()
    shown = drawn(f"{address}#made/base/{row['shard']}/{row['row']}", tmp_path, width)
    assert "first pit" in shown and trace["steps"][0]["text"].strip() in shown
    assert f"of {listed(client)['total']} traces" in shown
    assert "token=" not in shown


def drawn(page: str, profile: Path, width: int = 1400) -> str:
    """A page as Chromium has it once its scripts have run."""
    words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    words += [f"--window-size={width},900", "--virtual-time-budget=8000", "--dump-dom", page]
    return subprocess.run(words, capture_output=True, text=True, timeout=300).stdout


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
def test_a_browser_draws_the_plots(address: str, tmp_path: Path) -> None:
    shown = drawn(f"{address}#plots/made/base", tmp_path)
    for title in ("Mean Q by place in the trace", "First pits by place", "Problems by share of right traces"):
        assert f'aria-label="{title}' in shown


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
def test_a_link_to_a_held_out_answer_takes_the_list_along(address: str, tmp_path: Path) -> None:
    shown = drawn(f"{address}#made/held-out%2C%20dpo/0/0", tmp_path)
    assert "1 to 6 of 6 traces" in shown and "The same problem, by others" in shown
    assert "right where held-out, base is wrong" in shown
