"""results.json: numbers against a run whose every record is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.recipe import Recipe
from app.records import StepValue, Trace, Verdict
from app.report import results as module
from app.report.results import answers_of
from app.statistics import wilson
from app.store import Output
from tests.report.conftest import shown_of

Run = dict[str, Output]


def results(recipe: Recipe, inputs: Run) -> dict[str, Any]:
    return module.results(recipe, inputs, shown_of(inputs))


@pytest.fixture(scope="module")
def found(shared_run: Run, build_recipe: Callable[..., Recipe]) -> dict[str, Any]:
    return results(build_recipe(), shared_run)


def test_results_are_plain_json(found: dict[str, Any]) -> None:
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_every_method_in_order(found: dict[str, Any]) -> None:
    assert list(found["methods"]) == ["base", "sft", "rft", "dpo", "step_dpo"]
    assert found["baseline"] == "sft" and found["methods"]["sft"]["versus"] is None


@pytest.mark.parametrize("method", ["base", "sft", "rft", "dpo", "step_dpo"])
def test_accuracy_counts_greedy_answers_only(found: dict[str, Any], shared_run: Run, method: str) -> None:
    output = shared_run[f"evaluation/{method}"]
    verdicts = {v.trace_id: v.outcome for v in Verdict.from_table(output.read(kind="verdicts"))}
    greedy = [verdicts[t.id] for t in Trace.from_table(output.read()) if t.sample == 0]
    accuracy = found["methods"][method]["accuracy"]
    assert accuracy["correct"] == greedy.count("correct") and accuracy["n"] == len(greedy) == 60
    assert accuracy["unparsed"] == greedy.count("unparsed")
    assert (accuracy["low"], accuracy["high"]) == wilson(greedy.count("correct"), 60)


@pytest.mark.parametrize("method", ["base", "rft", "dpo", "step_dpo"])
def test_paired_difference_adds_up(found: dict[str, Any], method: str) -> None:
    versus = found["methods"][method]["versus"]
    gap = found["methods"][method]["accuracy"]["correct"] - found["methods"]["sft"]["accuracy"]["correct"]
    assert versus["gained"] - versus["lost"] == gap
    assert versus["difference"]["value"] == pytest.approx(gap / 60)
    assert versus["difference"]["low"] <= gap / 60 <= versus["difference"]["high"]


def test_each_is_compared_with_all_before_it(found: dict[str, Any]) -> None:
    assert {name: list(others) for name, others in found["differences"].items()} == {
        "sft": ["base"],
        "rft": ["base", "sft"],
        "dpo": ["base", "sft", "rft"],
        "step_dpo": ["base", "sft", "rft", "dpo"],
    }
    assert found["differences"]["rft"]["sft"] == found["methods"]["rft"]["versus"]["difference"]
    gap = found["methods"]["dpo"]["accuracy"]["correct"] - found["methods"]["rft"]["accuracy"]["correct"]
    assert found["differences"]["dpo"]["rft"]["value"] == pytest.approx(gap / 60)


@pytest.mark.parametrize("method", ["base", "sft", "rft", "dpo", "step_dpo"])
def test_drawn_samples_give_pass_and_majority(found: dict[str, Any], shared_run: Run, method: str) -> None:
    body = found["methods"][method]
    assert list(body["pass_at_k"]) == list(body["maj_at_k"]) == ["1", "2", "4", "8"]
    drawn = answers_of(shared_run[f"evaluation/{method}"]).drawn
    solved = sum(any(o == "correct" for o, _ in samples) for samples in drawn.values())
    assert body["pass_at_k"]["8"]["value"] == pytest.approx(solved / 60)
    share = sum(o == "correct" for samples in drawn.values() for o, _ in samples) / (60 * 8)
    assert body["pass_at_k"]["1"]["value"] == pytest.approx(share)
    assert body["maj_at_k"]["1"]["value"] == pytest.approx(share)
    values = [estimate["value"] for estimate in body["pass_at_k"].values()]
    assert values == sorted(values)


def test_yield_counts_every_trace(found: dict[str, Any], shared_run: Run) -> None:
    traces = Trace.from_table(shared_run["sampling/sft"].read())
    verdicts = {v.trace_id: v.outcome for v in Verdict.from_table(shared_run["verification/sft"].read())}
    yielded = found["samples"]["sft"]["yield"]
    assert yielded["traces"] == len(traces) == sum(yielded["outcomes"].values())
    right = [t for t in traces if verdicts[t.id] == "correct"]
    assert yielded["outcomes"]["correct"] == len(right)
    assert yielded["problems_solved"] == len({t.problem_id for t in right})
    assert yielded["problems"] == 40
    assert yielded["tokens_per_accepted"] == pytest.approx(sum(len(t.token_ids) for t in traces) / len(right))
    assert found["datasets"] == {"sft": 120, "rft": 180, "dpo": 180, "step_dpo": 180}


def test_credit_counts_traces_and_pits(found: dict[str, Any], shared_run: Run) -> None:
    rows = StepValue.from_table(shared_run["credit/sft"].read())
    assert found["samples"]["sft"]["credit"] == {
        "traces": len({row.trace_id for row in rows}),
        "first_pits": sum(row.first_pit for row in rows),
        "prefixes": sum(row.q is not None for row in rows),
        "tokens": 18_400,
    }


def test_stages_keep_keys_rows_and_cost(found: dict[str, Any], shared_run: Run) -> None:
    assert [stage["stage"] for stage in found["stages"]] == list(shared_run)
    for stage in found["stages"]:
        manifest = shared_run[stage["stage"]].manifest()
        assert (stage["key"], stage["rows"], stage["seconds"]) == (
            manifest["key"],
            manifest["rows"],
            manifest["seconds"],
        )
        assert stage["tokens"] == (0 if name_only(stage["stage"]) else manifest["counts"].get("tokens", 0))


def name_only(stage: str) -> bool:
    """Stages that hold tokens without sampling them or training on them."""
    return stage.partition("/")[0] in ("problems", "verification", "datasets")


def test_training_cost(found: dict[str, Any]) -> None:
    assert found["methods"]["base"]["training"] is None
    assert found["methods"]["rft"]["training"] == {
        "steps": 20, "examples": 1280, "tokens": 12_800, "seconds": 50.5, "wall_seconds": 71.0,
    }  # fmt: skip


def test_versions_of_all_stages(found: dict[str, Any]) -> None:
    assert found["versions"] == {"ray": ["2.60.0"], "torch": ["2.13.0"]}


def test_a_mixed_version_is_shown(shared_run: Run, build_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    other = Output(str(tmp_path), "problems", "k")
    other.write_shard(0, shared_run["problems"].read())
    other.finish(shared_run["problems"].manifest() | {"versions": {"ray": "2.61.0"}})
    mixed = results(build_recipe(), shared_run | {"problems": other})
    assert mixed["versions"]["ray"] == ["2.60.0", "2.61.0"]


@pytest.mark.parametrize(
    "left", [(), ("credit/sft",), ("credit/sft", "sampling/sft", "verification/sft"), ("synthesis",)]
)
def test_stages_may_be_absent(shared_run: Run, build_recipe: Callable[..., Recipe], left: tuple[str, ...]) -> None:
    found = results(build_recipe(), {n: o for n, o in shared_run.items() if n not in left})
    sampled = found["samples"].get("sft")
    assert (sampled is None) == ("sampling/sft" in left)
    assert sampled is None or (sampled["yield"] and (sampled["credit"] is None) == ("credit/sft" in left))
    assert list(found["methods"])


@pytest.mark.parametrize(
    ("kept", "baseline"), [(["base", "rft"], "base"), (["rft"], None), ([], None), (["sft", "dpo"], "sft")]
)
def test_baseline_without_sft(
    shared_run: Run, build_recipe: Callable[..., Recipe], kept: list[str], baseline: str | None
) -> None:
    inputs = {n: o for n, o in shared_run.items() if not n.startswith("evaluation/")}
    inputs |= {f"evaluation/{m}": shared_run[f"evaluation/{m}"] for m in kept}
    found = results(build_recipe(), inputs)
    assert found["baseline"] == baseline and list(found["methods"]) == kept
    for name, method in found["methods"].items():
        assert (method["versus"] is None) == (baseline is None or name == baseline)


def rewrite(output: Output, folder: Path, outcome: str) -> Output:
    """The same evaluation, with the first shard's verdicts replaced."""
    other = Output(str(folder), output.stage, output.key)
    for index in output.done_shards():
        verdicts = Verdict.from_table(output.read_shard(index, kind="verdicts"))
        if index == 0:
            verdicts = [Verdict(v.trace_id, outcome, None, "made-up", "none", 0.0) for v in verdicts]
        other.write_shard(index, Verdict.table(verdicts), kind="verdicts")
        other.write_shard(index, output.read_shard(index), output.shard_counts(index))
    other.finish(output.manifest())
    return other


@pytest.mark.parametrize("outcome", ["timeout", "error"])
def test_undecided_verdicts_are_never_wrong(
    shared_run: Run, build_recipe: Callable[..., Recipe], tmp_path: Path, outcome: str
) -> None:
    inputs = shared_run | {"evaluation/rft": rewrite(shared_run["evaluation/rft"], tmp_path, outcome)}
    body = results(build_recipe(), inputs)["methods"]["rft"]
    assert body["accuracy"]["undecided"] == 25 and body["accuracy"]["n"] == 35 and body["problems"] == 60
    assert body["versus"]["undecided"] == 25 and body["versus"]["difference"]["n"] == 35
    assert body["pass_at_k"]["8"]["n"] == 35 and body["drawn_undecided"] == 25 * 8


def test_unparsed_answers_are_wrong(shared_run: Run, build_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    inputs = shared_run | {"evaluation/rft": rewrite(shared_run["evaluation/rft"], tmp_path, "unparsed")}
    accuracy = results(build_recipe(), inputs)["methods"]["rft"]["accuracy"]
    assert accuracy["n"] == 60 and accuracy["unparsed"] >= 25 and accuracy["undecided"] == 0


def test_a_trace_without_a_verdict_is_an_error(
    shared_run: Run, build_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    output = shared_run["evaluation/rft"]
    other = Output(str(tmp_path), output.stage, output.key)
    other.write_shard(0, output.read_shard(0, kind="verdicts").slice(1), kind="verdicts")
    other.write_shard(0, output.read_shard(0))
    other.finish(output.manifest())
    with pytest.raises(ValueError, match="has no verdict"):
        results(build_recipe(), shared_run | {"evaluation/rft": other})
