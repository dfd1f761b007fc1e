"""Named runs and rounds: which stages they make, what equal parts share, and what a gate leaves out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import app.pipeline as pipeline
from app.errors import UserError
from app.graph import build
from app.plan import keys_of, plan, table
from app.policy import START, base_policy, trained_policy
from app.recipe import Recipe, check_runs
from app.runs import Rounds
from app.stage import Stage, StageContext
from app.store import Output

RUNS = {
    "sft": {"method": "sft", "steps": 4},
    "rft": {"method": "rft", "samples": "sft", "steps": 4},
    "dpo": {"method": "dpo", "init": "sft", "steps": 4},
}
MORE = {"method": "step_dpo", "init": "rft", "steps": 4}


def recipe(runs: dict[str, Any] | None = None, **parts: Any) -> Recipe:
    body = {
        "name": "r",
        "problems": {"source": {"kind": "world"}, "train": 6, "validation": 4, "test": 4},
        "sampling": {"samples": 2},
        "credit": {},
        "runs": RUNS | (runs or {}),
    }
    found = Recipe.model_validate(body | parts)
    check_runs(found)
    return found


def stages(found: Recipe) -> dict[str, Stage]:
    return {stage.name: stage for stage in build(found)}


def rounds(**settings: Any) -> dict[str, Any]:
    return {"more": MORE | {"rounds": {"count": 3} | settings}}


def test_inputs_come_before_what_reads_them() -> None:
    seen: set[str] = set()
    for stage in build(recipe(rounds(window="all"))):
        assert seen.issuperset(stage.inputs.values()), stage.name
        seen.add(stage.name)


def test_a_policy_is_sampled_once_for_all_runs_that_learn_from_it() -> None:
    made = stages(recipe({"dpo2": RUNS["dpo"] | {"beta": 0.3}}))
    assert [name for name in made if made[name].kind in ("sampling", "verification")] == [
        "sampling/sft",
        "verification/sft",
    ]
    assert made["training/dpo2"].inputs["dataset"] == "datasets/dpo" and "datasets/dpo2" not in made


def test_two_runs_that_are_the_same_are_computed_once() -> None:
    made = stages(recipe({"again": RUNS["dpo"]}))
    assert "training/again" not in made and "evaluation/again" not in made
    assert made["report"].options["shown"]["again"]["evaluation"] == "evaluation/dpo"


def test_no_name_enters_a_key() -> None:
    before = keys_of(build(recipe()))
    renamed = {name: RUNS[name] for name in ("sft", "rft")} | {"other": RUNS["dpo"]}
    after = keys_of(build(Recipe.model_validate(recipe().model_dump() | {"runs": renamed})))
    assert after["training/other"] == before["training/dpo"]
    assert after["evaluation/other"] == before["evaluation/dpo"]


def test_a_run_that_got_another_name_keeps_what_it_has(tmp_path: Path) -> None:
    keys = keys_of(build(recipe()))
    Output(str(tmp_path), "training/dpo", keys["training/dpo"]).write_shard(0, pa.table({"step": [1]}))
    renamed = {"sft": RUNS["sft"], "rft": RUNS["rft"], "other": RUNS["dpo"]}
    steps = plan(build(Recipe.model_validate(recipe().model_dump() | {"runs": renamed})), str(tmp_path))
    [step] = [step for step in steps if step.stage.name == "training/other"]
    assert (step.state, step.output.stage) == ("partial", "training/dpo")


def test_a_run_more_changes_nothing_of_the_others() -> None:
    before, after = keys_of(build(recipe())), keys_of(build(recipe(rounds())))
    assert all(after[name] == key for name, key in before.items() if name != "report")


def test_a_chain_samples_the_newest_policy_and_starts_from_it() -> None:
    made = stages(recipe(rounds()))
    assert made["sampling/rft"].inputs["policy"] == made["training/more-1"].inputs["start"] == "training/rft"
    assert made["sampling/more-1"].inputs["policy"] == made["training/more-2"].inputs["start"] == "training/more-1"
    assert made["training/more"].inputs["start"] == "training/more-2"
    assert made["datasets/more-2"].inputs["sampling"] == "sampling/more-1"
    assert made["datasets/more-2"].inputs["credit"] == "credit/more-1"


@pytest.mark.parametrize(("window", "joined"), [(1, 1), (2, 2), ("all", 3), (9, 3)])
def test_a_window_joins_the_samples_of_rounds(window: int | str, joined: int) -> None:
    inputs = stages(recipe(rounds(window=window)))["datasets/more"].inputs
    found = [name for role, name in inputs.items() if role.partition(".")[0] == "sampling"]
    assert found == ["sampling/rft", "sampling/more-1", "sampling/more-2"][-joined:]


def test_samples_of_several_policies_are_joined() -> None:
    inputs = stages(recipe({"both": RUNS["dpo"] | {"samples": ["sft", "base"]}}))["datasets/both"].inputs
    assert (inputs["sampling"], inputs["sampling.1"]) == ("sampling/sft", "sampling/base")


def test_the_reference_is_the_start_or_the_first_policy() -> None:
    start, first = (stages(recipe(rounds(reference=name))) for name in ("start", "first"))
    assert all("reference" not in stage.inputs for stage in start.values())
    assert "reference" not in first["training/more-1"].inputs
    assert first["training/more-2"].inputs["reference"] == first["training/more"].inputs["reference"] == "training/rft"


def test_a_schedule_changes_rounds_and_the_last_one_holds_on() -> None:
    schedule = [{}, {"sampling": {"temperature": 0.5}, "run": {"steps": 2}}]
    made = stages(recipe(rounds(schedule=schedule)))
    heat = {name: made[f"sampling/{name}"].settings["temperature"] for name in ("rft", "more-1", "more-2")}
    assert heat == {"rft": 1.0, "more-1": 0.5, "more-2": 0.5}
    steps = [made[f"training/{name}"].settings["steps"] for name in ("more-1", "more-2", "more")]
    assert steps == [4, 2, 2]


def test_one_policy_asked_in_two_ways_has_two_stages() -> None:
    found = recipe({"more": MORE | {"rounds": {"count": 1, "schedule": [{"sampling": {"samples": 5}}]}, "init": "sft"}})
    made = stages(found)
    assert made["sampling/sft"].settings["samples"] == 2 and made["sampling/sft-2"].settings["samples"] == 5
    assert made["datasets/more"].inputs["sampling"] == "sampling/sft-2"


def test_what_is_asked_of_one_policy_alone() -> None:
    made = stages(recipe(rounds(), policies={"rft": {"sampling": {"samples": 7}, "credit": {"rollouts": 3}}}))
    assert (made["sampling/sft"].settings["samples"], made["sampling/rft"].settings["samples"]) == (2, 7)
    assert made["credit/rft"].settings["rollouts"] == 3 != made["credit/more-1"].settings["rollouts"]


@pytest.mark.parametrize(
    ("policies", "says"),
    [
        ({"rft": {"sampling": {"sampels": 3}}}, r"policies.rft.sampling.sampels: unknown key \(did you mean 'samples'"),
        ({"rft": {"sampling": {"problems_per_shard": 3}}}, "the same for all policies"),
    ],
)
def test_what_is_asked_wrongly_of_one_policy(policies: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(recipe(rounds(), policies=policies))


def test_a_model_of_the_users_own_is_a_start(tmp_path: Path) -> None:
    world = base_policy(recipe().model).path
    found = recipe({"dpo": RUNS["dpo"] | {"init": "mine", "samples": "mine"}}, models={"mine": {"path": world}})
    made = stages(found)
    assert "start" not in made["training/dpo"].inputs and made["training/dpo"].options["start"].path == world
    assert "evaluation/mine" in made or "evaluation/base" in made


def test_defaults_of_training_are_each_runs_own() -> None:
    runs = {"a": {"method": "sft", "epochs": 2}, "b": {"method": "dpo", "beta": 0.5}}
    body = recipe().model_dump() | {"runs": runs, "training": {"steps": 9, "batch": 4, "beta": 0.2}}
    found = Recipe.model_validate(body).trained()
    a, b = found["a"].training, found["b"].training
    assert a and b and (a.epochs, a.steps, a.batch) == (2, None, 4)
    assert (b.steps, b.batch, b.beta) == (9, 4, 0.5)  # type: ignore[attr-defined]


def test_a_window_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Rounds(count=2, window=0)


# -- the gate ---------------------------------------------------------------------------------------------------------


def acting(calls: list[str], kept: set[str]) -> Callable[[StageContext], None]:
    """Stages that only say that they ran. Training of `kept` keeps its start; without a data set it is passed on."""

    def run(context: StageContext) -> None:
        stage = context.stage
        passed = stage.kind == "training" and "dataset" not in context.inputs
        calls.append(f"pass {stage.name}" if passed else stage.name)
        counts = {"kept_start": 1.0} if stage.name in kept or passed else {}
        context.output.write_shard(0, pa.table({"id": [stage.name]}), counts)

    return run


def go(monkeypatch: pytest.MonkeyPatch, root: Path, found: Recipe, kept: set[str]) -> tuple[list[str], list[Any]]:
    from dataclasses import replace

    calls: list[str] = []
    made = [replace(stage, run=acting(calls, kept)) for stage in build(found)]
    monkeypatch.setattr(pipeline, "build", lambda _: made)
    return calls, pipeline.run(found, str(root))


def test_where_every_round_helps_all_of_them_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = recipe(rounds())
    calls, steps = go(monkeypatch, tmp_path, found, set())
    assert sorted(calls) == sorted(stage.name for stage in build(found))
    assert {step.state for step in steps} == {"done"}


def test_a_round_that_does_not_help_ends_the_chain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = recipe(rounds())
    calls, steps = go(monkeypatch, tmp_path, found, {"training/more-1"})
    left_out = {step.stage.name for step in steps if step.state == "left out"}
    assert left_out == {
        f"{kind}/{name}"
        for kind, names in {
            "sampling": ("more-1", "more-2"),
            "verification": ("more-1", "more-2"),
            "credit": ("more-1", "more-2"),
            "datasets": ("more-2", "more"),
            "evaluation": ("more-2",),
        }.items()
        for name in names
    }
    assert calls.count("pass training/more-2") == calls.count("pass training/more") == 1
    assert "evaluation/more" in calls and "report" in calls
    again, steps = go(monkeypatch, tmp_path, found, {"training/more-1"})
    assert again == [] and "left out" in table(found, steps)


def test_without_a_gate_nothing_is_left_out() -> None:
    made = build(recipe(rounds(gate=False)))
    assert all(stage.after is None and not stage.passes for stage in made)


def test_what_another_run_needs_is_never_left_out() -> None:
    """Another chain samples the same policy in any case."""
    other = {"other": MORE | {"rounds": {"count": 2, "gate": False}}}
    made = stages(recipe(rounds() | other))
    shared = [stage for stage in made.values() if stage.name == "sampling/rft"]
    assert shared and shared[0].after is None


def test_a_kept_start_is_the_policy_it_started_from(tmp_path: Path) -> None:
    root = str(tmp_path)
    first, second = Output(root, "training/a", "k1"), Output(root, "training/b", "k2")
    first.write_json(START, {"path": "hub/model", "fingerprint": "f"})
    second.write_json(START, {"stage": "training/a", "key": "k1"})
    assert trained_policy(second) == trained_policy(first)
    assert (trained_policy(second).path, trained_policy(second).fingerprint) == ("hub/model", "f")
