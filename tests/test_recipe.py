"""Recipes: every fault is one line that names the key and the nearest valid one."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import UserError
from app.graph import build
from app.plan import keys_of, plan, table
from app.recipe import load
from jobs import reference

RECIPES = sorted((Path(__file__).parents[1] / "jobs" / "recipes").glob("*.yaml"))
BODY = """
name: tiny
problems: {source: {kind: world, operations: [2, 3]}, train: 4, validation: 2, test: 4}
sampling: {samples: 2}
"""

SAMPLED = ["runs.rft={method: rft, steps: 1, teacher: false}"]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(BODY)
    return path


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("sampling.sample=3", "sampling.sample: unknown key (did you mean 'samples'?)"),
        ("problms={}", "problms: unknown key (did you mean 'problems'?)"),
        ("sampling.samples=many", "sampling.samples: Input should be a valid integer"),
        ("sampling.samples=0", "sampling.samples: Input should be greater than or equal to 1 (got 0)"),
        ("sampling.policy=sft", "sampling.policy: moved to runs.NAME.samples"),
        ("training.sft.init=base", "training.sft: moved to runs.sft, with method: sft"),
        ("datasets.dpo.per_problem=2", "datasets.dpo: moved to runs.dpo, with method: dpo"),
        ("sampling.until={correct: 1}", "sampling.until: is now called stopping"),
        ("placement.training.zero=3", "placement.training.zero: is now called zero_stage"),
        ("runs.a={method: dpo, steps: 1, nll: 1}", "runs.a.nll: is now called rpo_alpha"),
        ("runs.a={method: stf}", "runs.a.method: no such method: stf (did you mean 'sft'?)"),
        ("runs.a={method: sft, steps: 1, stps: 2}", "runs.a.stps: unknown key (did you mean 'steps'?)"),
        ("runs.a={method: sft, steps: 1, init: b}", "runs.a.init: no such policy: b"),
        ("runs.a={method: rft, steps: 1, samples: [base, b]}", "runs.a.samples: no such policy: b"),
        ("runs.a={method: rft, steps: 1, rounds: {window: 1}}", "runs.a.rounds.count: Field required"),
        ("runs.base={method: sft, steps: 1}", "runs.base: choose another name"),
        ("runs.a={method: prm, init: base}", "runs.a: prm trains nothing"),
        ("policies.b={}", "policies.b: no such policy"),
        ("plugins=[no_such_module]", "plugins: no_such_module cannot be imported"),
        ("problems.source.kind=wrld", "problems.source: "),
        ("problems.source.operation=[1,2]", "unknown key (did you mean 'operations'?)"),
        ("name=a/b", "name: String should match pattern"),
        ("problems.test=null", "the world is unlimited: give problems.train"),
        ("runs.a={method: sft}", "runs.a: give exactly one of epochs and steps"),
        ("rendering.template_arguments={thinking: true}", "rendering: template_arguments: only with template: chat"),
        ("rendering.few_shot=[{statement: a}]", "rendering.few_shot.0.solution: Field required"),
        ("rendering.prompt=hello", "rendering.prompt: must contain {statement}"),
        ("sampling=3", "sampling: Input should be"),
        ("placement.sampling.actor=2", "unknown key (did you mean 'actors'?)"),
    ],
)
def test_faults(recipe: Path, override: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        load(str(recipe), [override])
    message = str(caught.value)
    assert says in message
    assert str(recipe) in message
    assert "\n" not in message.strip() or override.startswith(("problems.source.kind", "sampling=3"))


def test_several_faults_are_several_lines(recipe: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(str(recipe), ["a=1", "b=2", "sampling.top_p=7"])
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("override", ["sampling.samples", "=3", "name.more=1"])
def test_malformed_overrides(recipe: Path, override: str) -> None:
    with pytest.raises(UserError, match=r"--set .*: "):
        load(str(recipe), [override])


def test_overrides_make_parts_that_were_not_there(recipe: Path) -> None:
    assert load(str(recipe), ["credit.rollouts=7"]).credit.rollouts == 7  # type: ignore[union-attr]


def test_a_missing_recipe_names_the_nearest(tmp_path: Path, recipe: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'tiny.yaml'"):
        load(str(tmp_path / "tinny.yaml"))


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2", "hello"])
def test_not_a_mapping(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"bad\.yaml"):
        load(str(path))


def test_missing_files_are_named(recipe: Path) -> None:
    with pytest.raises(UserError, match="problems.source.train: no such file: nowhere.jsonl"):
        load(str(recipe), ["problems.source={kind: file, train: nowhere.jsonl, test: nowhere.jsonl}"])


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["runs.a={method: step_dpo, steps: 1}"], "runs.a needs step values: add a credit part"),
        (["sampling=null", "runs.a={method: dpo, steps: 1}"], "runs.a needs samples: add a sampling part"),
        (["runs.a={method: sft, steps: 1, rounds: 2}"], "runs.a.rounds: sft learns from no samples"),
        (
            ["problems.validation=0", "runs.a={method: dpo, steps: 1, rounds: 2}"],
            "runs.a.rounds.gate: no validation problems",
        ),
        (["runs.a={method: dpo, steps: 1, rounds: 2, lora: {merge: false}}"], "runs.a.lora.merge is false"),
        (["sampling=null", "credit={}"], "credit needs sampling"),
        (["credit={pit: lowest}"], "pit: lowest needs the value of every step; give search: exhaustive .now adaptive."),
        (["credit={search: binary, pit: adaptive}"], "pit: adaptive is the belief that search: adaptive keeps"),
        (["runs.a={method: sft, init: a, steps: 1}"], "runs.a: starts from itself"),
    ],
)
def test_parts_that_need_each_other(recipe: Path, overrides: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(load(str(recipe), overrides))


def keys(path: Path, *overrides: str) -> dict[str, str]:
    return keys_of(build(load(str(path), list(overrides))))


def test_placement_changes_no_key(recipe: Path) -> None:
    wide = ["placement.sampling.actors=8", "placement.training.zero_stage=3", "placement.concurrent_stages=4"]
    assert keys(recipe) == keys(recipe, *wide)


def test_where_an_engine_cuts_and_in_which_numbers_it_works_is_in_the_key(recipe: Path) -> None:
    before = keys(recipe)
    for override in ("placement.sampling.max_model_len=99", "placement.sampling.dtype=float32"):
        after = keys(recipe, override)
        changed = {name for name in before if before[name] != after[name]}
        assert changed == {"sampling/base", "verification/base", "evaluation/base", "report"}
    after = keys(recipe, "placement.evaluation={max_model_len: 99}")
    assert {name for name in before if before[name] != after[name]} == {"evaluation/base", "report"}


def test_what_one_changes_where_memory_ran_out_keeps_the_checkpoints(recipe: Path) -> None:
    run = "runs.sft={{method: sft, steps: 4, batch: 8, {}}}"
    before = keys(recipe, run.format("micro_batch: 8"))
    for other in ("micro_batch: 1", "micro_batch: 8, gradient_checkpointing: true", "checkpoint_steps: 2"):
        assert keys(recipe, run.format(other)) == before
    assert keys(recipe, run.format("learning_rate: 1.0"))["training/sft"] != before["training/sft"]


def test_a_setting_changes_its_stage_and_what_lies_below_only(recipe: Path) -> None:
    before, after = keys(recipe), keys(recipe, "sampling.samples=3")
    assert {name for name in before if before[name] != after[name]} == {"sampling/base", "verification/base", "report"}


def test_a_pit_rule_checks_the_search_and_enters_no_key(recipe: Path) -> None:
    for search, pit in (("adaptive", "adaptive"), ("exhaustive", "lowest"), ("sequential", "zero_of_k")):
        plain = keys(recipe, f"credit={{search: {search}}}")
        assert keys(recipe, f"credit={{search: {search}, pit: {pit}}}") == plain
    assert plain["credit/base"] != keys(recipe, "credit={search: exhaustive}")["credit/base"]


def test_the_seed_changes_every_drawn_stage(recipe: Path) -> None:
    before, after = keys(recipe), keys(recipe, "seed=1")
    assert before["problems"] != after["problems"]
    assert before["sampling/base"] != after["sampling/base"]


def test_moving_a_file_changes_no_key_and_editing_it_does(recipe: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    for file in (first, second):
        file.write_text('{"question": "What is one and one?", "answer": "#### 2"}\n')
    source = "problems={{source: {{kind: file, train: {0}, test: {0}}}}}"
    here, there = keys(recipe, source.format(first)), keys(recipe, source.format(second))
    assert here == there
    second.write_text('{"question": "What is one and two?", "answer": "#### 3"}\n')
    assert keys(recipe, source.format(second))["problems"] != here["problems"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path, tmp_path: Path) -> None:
    data = tmp_path / "problems.jsonl"
    data.write_text('{"question": "What is one and one?", "answer": "#### 2"}\n')
    files = [f"problems.source.{split}={data}" for split in ("train", "test")]
    local = "kind: file" in path.read_text()
    stages = build(load(str(path), [*files, "model.path=some/hub-model"] if local else []))
    names = [stage.name for stage in stages]
    assert names[0] == "problems"
    assert names[-1] == "report"
    assert all(set(stage.inputs.values()) <= set(names[:index]) for index, stage in enumerate(stages))


def test_the_plan_counts_kept_seeds_and_says_what_it_cannot_know(recipe: Path, tmp_path: Path) -> None:
    written = ["synthesis.count=10", "synthesis.keep_seeds=true", "sampling.max_tokens=100"]
    known = load(str(recipe), written)
    text = table(known, plan(build(known), str(tmp_path)))
    assert f"{(4 + 10) * 2 * 100:,}" in text
    assert "only the source knows" not in text
    file = tmp_path / "p.jsonl"
    file.write_text('{"question": "What is one and one?", "answer": "#### 2"}\n')
    unknown = load(str(recipe), [*written, f"problems={{source: {{kind: file, train: {file}, test: {file}}}}}"])
    assert "and 2 stages whose number of problems only the source knows" in table(
        unknown, plan(build(unknown), str(tmp_path))
    )


def test_a_renamed_default_of_training_names_its_new_name(recipe: Path) -> None:
    with pytest.raises(UserError, match="training.clip: is now called max_grad_norm"):
        load(str(recipe), ["runs.a={method: sft, steps: 1}", "training.clip=1"])


def test_an_override_that_is_no_yaml_is_one_error(recipe: Path) -> None:
    with pytest.raises(UserError, match=r"^--set name=\[a: the value is no YAML: expected ',' or"):
        load(str(recipe), ["name=[a"])


def test_settings_that_came_later_change_no_key_where_they_are_not_used(recipe: Path) -> None:
    def settings(*overrides: str) -> dict[str, object]:
        found = next(stage for stage in build(load(str(recipe), [*SAMPLED, *overrides])) if stage.kind == "sampling")
        return found.settings

    before = settings()
    assert not {"top_k", "min_p"} & set(before) and "few_shot" not in before["rendering"]  # type: ignore[operator]
    assert settings("sampling.top_k=20")["top_k"] == 20
    shots = "rendering.few_shot=[{statement: '1 + 1?', solution: '2'}]"
    assert settings(shots)["rendering"]["few_shot"][0]["solution"] == "2"  # type: ignore[index]


def test_the_reference_is_that_of_the_classes() -> None:
    """Where this fails: `make docs-reference`."""
    assert reference.FILE.read_text() == reference.text()


def test_the_reference_has_types_bounds_defaults_and_what_a_key_does() -> None:
    rows = reference.text().splitlines()
    assert "| `samples` | integer, ≥ 1 | `8` | traces drawn of each problem |" in rows
    assert "| `train` | text | required | file of training problems: .jsonl, .json, .csv or .parquet |" in rows
    assert [row for row in rows if row.startswith("| `min_advantage`") and "> 0" in row and "least gain" in row]
