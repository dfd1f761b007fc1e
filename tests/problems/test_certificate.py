"""contamination.json, through the stage that writes it to the data set that asks for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.datasets.sources import Sources
from app.errors import UserError
from app.graph import build
from app.plan import plan
from app.problems import stage as problems_stage
from app.problems import synthesis_stage
from app.problems.certificate import FILE, statements_of
from app.progress import Progress
from app.recipe import Recipe, load, made
from app.records import Problem
from app.stage import Stage, StageContext
from app.store import Output

WORLD = {"source": {"kind": "world"}, "train": 12, "validation": 5, "test": 10}


def recipe(**synthesis: object) -> Recipe:
    return Recipe.model_validate({"name": "t", "problems": WORLD, "synthesis": {"count": 30, **synthesis}})


def run(recipe: Recipe, root: Path) -> tuple[Output, Output]:
    """Outputs of problems and of synthesis."""
    first, second = plan(build(recipe), str(root))[:2]
    problems_stage.run(StageContext(first.stage, recipe, {}, first.output, Progress("problems")))
    inputs = {"problems": first.output}
    synthesis_stage.run(StageContext(second.stage, recipe, inputs, second.output, Progress("synthesis")))
    return first.output, second.output


def statements(output: Output, split: str) -> list[str]:
    return [p.statement for p in Problem.from_table(output.read()) if p.split == split]


def sources(problems: Output, held_out: Output) -> Sources:
    """What a data set stage reads first."""
    stage = Stage("datasets/sft", lambda context: None, {}, {"problems": "synthesis", "held_out": "problems"})
    given = {"problems": problems, "held_out": held_out}
    return Sources(StageContext(stage, recipe(), given, Output("", "", ""), Progress("datasets/sft")))


def listed(folder: Path, rows: list[dict[str, Any]]) -> str:
    file = folder / "list.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_a_clean_set_is_certified_and_taken(tmp_path: Path) -> None:
    held_out, written = run(recipe(), tmp_path)
    told = written.read_json(FILE)
    assert {name: each["problems"] for name, each in told["lists"].items()} == {"test": 10, "validation": 5}
    assert told["compared"] == 30 and told["kept"] == written.counts()["problems"]
    assert told["dropped"] == 0 == len(told["hits"])
    assert told["rules"]["ngrams"] == {"8": 0.5, "12": 0.3}
    assert len(sources(written, held_out).problems) == told["kept"]


def test_planted_problems_are_dropped_counted_and_quoted(tmp_path: Path) -> None:
    _, first = run(recipe(), tmp_path)
    planted = statements(first, "train")[:5]
    file = listed(tmp_path, [{"problem": planted[0].upper()}, *({"problem": text} for text in planted[1:])])
    _, second = run(recipe(decontamination={"lists": {"mine": file}}), tmp_path)
    told = second.read_json(FILE)
    assert set(statements(second, "train")) == set(statements(first, "train")) - set(planted)
    assert told["lists"]["mine"]["dropped"] == {"exact": 5} and told["dropped"] == 5
    assert second.counts()["dropped: contaminated: exact of mine"] == 5
    assert {hit["problem"] for hit in told["hits"]} == set(planted)
    assert {hit["repeats"] for hit in told["hits"]} == {planted[0].upper(), *planted[1:]}


def test_seeds_that_are_kept_must_be_clean_too(tmp_path: Path) -> None:
    problems, _ = run(recipe(), tmp_path)
    seeds = statements(problems, "train")
    asked = {"keep_seeds": True, "decontamination": {"lists": {"mine": listed(tmp_path, [{"prompt": seeds[0]}])}}}
    held_out, written = run(recipe(**asked), tmp_path)
    assert set(seeds[1:]) <= set(statements(written, "train")) and seeds[0] not in statements(written, "train")
    assert len(sources(written, held_out).problems) == written.read_json(FILE)["kept"]


def changed(output: Output, change: Callable[[dict[str, Any]], object]) -> None:
    told = output.read_json(FILE)
    change(told)
    output.write_json(FILE, told)


def test_a_set_without_a_certificate_of_its_own_is_refused(tmp_path: Path) -> None:
    held_out, written = run(recipe(), tmp_path)
    changed(written, lambda told: told["lists"]["test"].update(digest="0"))
    with pytest.raises(UserError, match="about other test problems than this run's"):
        sources(written, held_out)
    changed(written, lambda told: told.update(kept_digest="0"))
    with pytest.raises(UserError, match="about .* other problems than the"):
        sources(written, held_out)
    Path(written.uri, FILE).unlink()
    with pytest.raises(UserError, match=r"no contamination\.json: nothing says .* remove that folder and run again"):
        sources(written, held_out)
    assert sources(replace(held_out), held_out).problems  # of the source itself none is asked


def test_bad_rows_of_a_list_are_named(tmp_path: Path) -> None:
    for row, says in (({"questoin": "x"}, r"list\.jsonl:2: no field 'question' \(did you"), ({"question": 3}, "text")):
        with pytest.raises(UserError, match=says):
            list(statements_of(listed(tmp_path, [{"question": "How many?"}, row])))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"lists": {"test": "x.jsonl"}}, r"lists.*test: the recipe's own"),
        ({"ngrams": {1: 0.5}}, "n-grams of two words or more"),
        ({"ngrams": {8: 0}}, "shares above 0"),
    ],
)
def test_faults_of_the_settings(body: dict[str, Any], says: str) -> None:
    synthesis = {"count": 3, "decontamination": body}
    with pytest.raises(UserError, match=says):
        made({"name": "t", "problems": WORLD, "synthesis": synthesis}, [], "r.yaml")


def test_a_list_decides_by_what_is_in_its_file(tmp_path: Path) -> None:
    rows = [{"question": "How many?"}]
    keys = []
    for name, more in (("a", []), ("b", []), ("c", rows)):
        (tmp_path / name).mkdir()
        file = listed(tmp_path / name, rows + more)
        keys.append(plan(build(recipe(decontamination={"lists": {"mine": file}})), str(tmp_path))[1].output.key)
    assert keys[0] == keys[1] != keys[2]


def test_a_list_that_is_not_there_is_told_before_anything_starts(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    synthesis = {"count": 3, "decontamination": {"lists": {"mine": "no.jsonl"}}}
    file.write_text(yaml.safe_dump({"name": "t", "problems": WORLD, "synthesis": synthesis}))
    with pytest.raises(UserError, match=r"synthesis\.decontamination\.lists\.mine: no such file: no\.jsonl"):
        load(str(file))
