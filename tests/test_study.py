"""A study: its cells, its plan, and what it makes and keeps, with stages that are scripted."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from app.errors import UserError
from app.graph import build
from app.pipeline import needed
from app.plan import Step, keys_of, plan
from app.recipe import Recipe, load
from app.records import Trace, Verdict, digest
from app.report.curve import saved_text
from app.study.cells import Cell, Point, cells, points_of
from app.study.ledger import Entry, Ledger
from app.study.reading import results
from app.study.series import baseline, series_of
from app.study.settings import Study, read_study
from jobs import study as job
from tests.runs import TINY, recipe_file

AXES = {"synthesis.count": [10, 20], "seed": [0, 1]}
LARGER = {"axes": {"synthesis.count": [40]}, "runs": ["sft"]}


def study_file(folder: Path, **changes: Any) -> str:
    """A study of the tiny recipe, its ledger beside it."""
    recipe = str(recipe_file(folder, TINY))
    body = {"name": "small", "recipe": recipe, "axes": AXES, "points": [LARGER], "folder": str(folder / "ledger")}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(body | changes, sort_keys=False))
    return str(path)


def planned(folder: Path, **changes: Any) -> list[Cell]:
    path = study_file(folder, **changes)
    study = read_study(path)
    return cells(study, study.recipe, path)


class Scripted:
    """Runs a plan's stages without engines: each leaves its manifest, evaluation its answers."""

    def __init__(self, fails: str = "") -> None:
        self.ran: list[str] = []
        self.fails = fails

    def __call__(self, recipe: Recipe, root: str, until: Sequence[str]) -> list[Step]:
        for step in plan(build(recipe), root):
            if step.stage.name in needed(plan(build(recipe), root), until) and step.state != "done":
                if step.stage.name == self.fails:
                    raise UserError("the stage fails")
                self.ran.append(step.stage.name)
                self._run(step, recipe)
        return plan(build(recipe), root)

    def _run(self, step: Step, recipe: Recipe) -> None:
        if step.stage.kind == "evaluation":
            traces = [Trace(f"t{n}", f"p{n}", 0, 0, "policy", [1], [2], "", "stop") for n in range(8)]
            right = [n * 10 < recipe.synthesis.count for n in range(8)]  # type: ignore[union-attr]
            said = ["correct" if each else "incorrect" for each in right[:-1]] + ["timeout"]
            verdicts = [Verdict(t.id, outcome, "1", "", "", 0.0) for t, outcome in zip(traces, said, strict=True)]
            step.output.write_shard(0, Verdict.table(verdicts), kind="verdicts")
            step.output.write_shard(0, Trace.table(traces))
        counts = {"steps": 4.0, "tokens": 100.0, "seconds": 1.0}
        body = {"settings": step.stage.settings, "inputs": {}, "revision": step.stage.revision, "rows": 8}
        step.output.finish(body | {"counts": counts, "seconds": 2.0, "versions": {"ray": "1"}, "finished": "now"})


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    scripted = Scripted()

    def run_all(left: list[Point], ledger: Ledger, root: str, minutes: float | None) -> None:
        job.make(left, ledger, root, scripted, minutes)

    monkeypatch.setattr(job, "run_all", run_all)
    return scripted


def main(folder: Path, path: str, *more: str) -> int:
    return job.main([path, "--runs", str(folder / "runs"), *more])


# -- cells ------------------------------------------------------------------------------------------------------------


def test_every_value_of_an_axis_with_every_value_of_the_others_and_what_points_add(tmp_path: Path) -> None:
    found = [(cell.size, cell.recipe.seed, cell.runs) for cell in planned(tmp_path)]
    both, alone = ("sft", "step_dpo"), ("sft",)
    assert found == [(10, 0, both), (20, 0, both), (40, 0, alone), (10, 1, both), (20, 1, both), (40, 1, alone)]


def test_a_cell_that_two_parts_name_is_there_once_with_the_runs_of_both(tmp_path: Path) -> None:
    again = {"axes": {"synthesis.count": [20, 40]}, "runs": ["step_dpo"]}
    found = planned(tmp_path, axes={"synthesis.count": [10, 20]}, points=[LARGER, again], runs=["sft"])
    assert [(cell.size, cell.runs) for cell in found] == [
        (10, ("sft",)),
        (20, ("sft", "step_dpo")),
        (40, ("sft", "step_dpo")),
    ]


def test_keys_of_a_part_reach_its_recipes_alone(tmp_path: Path) -> None:
    changed = {"axes": {"synthesis.count": [20]}, "set": {"runs.sft.learning_rate": 1e-05}}
    first, second, other = planned(tmp_path, axes={"synthesis.count": [10, 20]}, points=[changed])
    rates = [cell.recipe.trained()["sft"].training.learning_rate for cell in (first, second, other)]  # type: ignore[union-attr]
    assert rates == [1e-3, 1e-3, 1e-5]


def test_what_was_chosen_for_a_size_reaches_its_cells_and_names_no_line(tmp_path: Path) -> None:
    chosen = {10: {"runs.sft.steps": 7}, 40: {"runs.sft.steps": 9}}
    found = planned(tmp_path, axes={"synthesis.count": [10, 20]}, by_size=chosen)
    assert [cell.recipe.trained()["sft"].training.steps for cell in found] == [7, 4, 9]  # type: ignore[union-attr]
    assert lines_of(tmp_path, axes={"synthesis.count": [10, 20]}, by_size=chosen) == [("SFT", 3), ("per-step DPO", 2)]
    swept = planned(
        tmp_path, axes={"synthesis.count": [10], "runs.sft.steps": [2]}, points=[], by_size={10: chosen[10]}
    )
    assert swept[0].recipe.trained()["sft"].training.steps == 2  # type: ignore[union-attr]


def test_a_key_that_a_run_does_not_read_leaves_its_point_the_same(tmp_path: Path) -> None:
    found = planned(tmp_path, axes={"runs.step_dpo.beta": [0.1, 0.2]}, points=[])
    (sft, pairs), (same, others) = map(points_of, found)
    assert sft.key == same.key and pairs.key != others.key


def test_a_point_has_the_key_of_the_evaluation_of_the_recipe_itself(tmp_path: Path) -> None:
    last = planned(tmp_path)[-1]
    recipe = load(str(tmp_path / "tiny.yaml"), ["synthesis.count=40", "seed=1"])
    assert [point.key for point in points_of(last)] == [keys_of(build(recipe))["evaluation/sft"]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"axes": {"synthesis.cuont": [10]}}, r"study.yaml: at synthesis.cuont=10: .*synthesis.cuont: .*'count'"),
        ({"axes": {"synthesis.count": [10, -1]}}, r"study.yaml: at synthesis.count=-1: .*synthesis.count: "),
        ({"runs": ["sfd"]}, r"study.yaml: at .*: runs: no run sfd that trains \(did you mean 'sft'\?\)"),
        ({"by_size": {30: {"runs.sft.steps": 7}}}, r"study.yaml: by_size.30: no cell has that size"),
        ({"axes": {"seed": []}}, r"study.yaml: .*axes.seed: give at least one value"),
        ({"axis": {}}, r"study.yaml: axis: unknown key \(did you mean 'axes'\?\)"),
        ({"points": [{"run": ["sft"]}]}, r"study.yaml: points.0.run: unknown key \(did you mean 'runs'\?\)"),
        ({"size": "problems.tran"}, r"problems.tran: the size of a cell must be a whole number, this is None"),
        ({"recipe": "no.yaml"}, r"no.yaml: no such recipe file"),
    ],
)
def test_a_fault_names_the_file_and_the_key(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        planned(tmp_path, **changes)


def test_a_study_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert job.main(["world_quik"]) == 2
    assert "did you mean 'world_quick'?" in capsys.readouterr().err
    assert job.main([str(tmp_path / "no.yaml")]) == 2
    assert "no.yaml: no such study file" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(job.STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_studies_can_be_planned(path: Path) -> None:
    study = read_study(str(path))
    assert study.name == path.stem and isinstance(study, Study)
    assert cells(study, job.find_recipe(study.recipe), str(path))


# -- plan, ledger -----------------------------------------------------------------------------------------------------


def test_a_plan_counts_what_cells_share_once(tmp_path: Path, run: Scripted, capsys: pytest.CaptureFixture[str]) -> None:
    path = study_file(tmp_path, axes={"runs.step_dpo.beta": [0.1, 0.2]}, points=[])
    assert main(tmp_path, path, "--plan") == 0
    said = capsys.readouterr().out
    shared = 8 + 1  # problems, synthesis, SFT and its samples with their values; the data set of the pairs
    assert "3 points to make, 0 in the ledger" in said and f"{shared + 2 * 2} stages run, 0 are reused" in said
    assert not run.ran and not (tmp_path / "ledger").exists() and not (tmp_path / "runs").exists()


def test_a_study_runs_each_stage_once_and_leaves_a_file_a_point(tmp_path: Path, run: Scripted) -> None:
    path = study_file(tmp_path)
    assert main(tmp_path, path) == 0
    assert run.ran.count("problems") == 2 and run.ran.count("synthesis") == 6  # by seed; by size and seed
    assert run.ran.count("evaluation/sft") == 6 and run.ran.count("evaluation/step_dpo") == 4
    assert "evaluation/base" not in run.ran and "report" not in run.ran
    points = sorted((tmp_path / "ledger" / "points").iterdir())
    assert len(points) == 10 and all(point.stat().st_size < 8000 for point in points)
    assert len(list((tmp_path / "ledger" / "problems").iterdir())) == 1


def test_an_entry_says_what_was_answered_and_how_it_was_made(tmp_path: Path, run: Scripted) -> None:
    path = study_file(tmp_path, axes={"synthesis.count": [20]}, points=[])
    assert main(tmp_path, path) == 0
    ledger = Ledger(str(tmp_path / "ledger"))
    [cell] = planned(tmp_path, axes={"synthesis.count": [20]}, points=[])
    entry = ledger.entry(points_of(cell)[1].key)
    assert (entry.run, entry.method, entry.seed, entry.greedy) == ("step_dpo", "step_dpo", 0, "1100000-")
    assert entry.errors == [0, 0, 1, 1, 1, 1, 1, None] and ledger.ids(entry)[7] == "p7"
    assert set(entry.settings) == {"datasets/step_dpo", "training/step_dpo", "evaluation/step_dpo"}
    assert {"training/sft", "credit/sft", "synthesis"} <= set(entry.stages) and entry.versions == {"ray": "1"}
    assert entry.stages["training/sft"] | {"key": ""} == {
        "key": "",
        "seconds": 2.0,
        "rows": 8,
        "tokens": 100.0,
        "steps": 4.0,
    }


def test_a_study_goes_on_from_its_ledger_without_the_runs(
    tmp_path: Path, run: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = study_file(tmp_path)
    assert main(tmp_path, path) == 0
    shutil.rmtree(tmp_path / "runs")
    monkeypatch.setattr(job, "run_all", lambda *_: pytest.fail("a run was started"))
    assert main(tmp_path, path) == 0


def test_another_seed_makes_its_own_points_alone(
    tmp_path: Path, run: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path, study_file(tmp_path)) == 0
    shutil.rmtree(tmp_path / "runs")
    run.ran.clear()
    capsys.readouterr()
    path = study_file(tmp_path, axes=AXES | {"seed": [0, 1, 2]})
    assert main(tmp_path, path) == 0
    assert run.ran.count("problems") == 1 and run.ran.count("evaluation/sft") == 3
    assert "cell 1 of 3: synthesis.count=10, seed=2: sft, step_dpo" in capsys.readouterr().out


def test_no_cell_is_begun_after_some_minutes_and_whole_seeds_are_shown(
    tmp_path: Path, run: Scripted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ticks = itertools.count()  # a minute a look: one when the cells are begun, one before each
    monkeypatch.setattr(job, "time", SimpleNamespace(monotonic=lambda: 60.0 * next(ticks)))
    path = study_file(tmp_path)
    assert main(tmp_path, path, "--minutes", "5") == 0  # of the six cells of two seeds the first four
    assert "3 points are left to make" in capsys.readouterr().out
    assert json.loads((tmp_path / "ledger" / "results.json").read_text())["seeds"] == [0]
    assert main(tmp_path, path, "--minutes", "0") == 0 and "3 points are left" in capsys.readouterr().out
    assert main(tmp_path, path) == 0
    assert json.loads((tmp_path / "ledger" / "results.json").read_text())["seeds"] == [0, 1]
    assert "left to make" not in capsys.readouterr().out


def test_points_of_a_cell_that_fails_are_kept(
    tmp_path: Path, run: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    run.fails = "training/step_dpo"
    path = study_file(tmp_path)
    assert main(tmp_path, path) == 2
    assert "the stage fails" in capsys.readouterr().err
    run.fails = ""
    kept = Ledger(str(tmp_path / "ledger")).keys()
    ran = run.ran.count("evaluation/sft")
    assert len(kept) == ran
    assert main(tmp_path, path) == 0
    assert run.ran.count("evaluation/sft") == 6 and len(Ledger(str(tmp_path / "ledger")).keys()) == 10


def test_an_entry_that_cannot_be_read_names_its_file(tmp_path: Path, run: Scripted) -> None:
    assert main(tmp_path, study_file(tmp_path)) == 0
    ledger = Ledger(str(tmp_path / "ledger"))
    key = min(ledger.keys())
    file = tmp_path / "ledger" / "points" / f"{key}.json"
    body = json.loads(file.read_text())
    for text in ("<<<<<<< ours", json.dumps(body | {"more": 1}), json.dumps(body | {"format": 0})):
        file.write_text(text)
        with pytest.raises(UserError, match=rf"points/{key}.json: no entry .*delete the file"):
            ledger.entry(key)
    file.write_text(json.dumps(body))
    for problems in (tmp_path / "ledger" / "problems").iterdir():
        problems.unlink()
    with pytest.raises(UserError, match="bring the file back"):
        ledger.entry(key)


# -- reading ----------------------------------------------------------------------------------------------------------


def lines_of(folder: Path, **changes: Any) -> list[tuple[str, int]]:
    """Titles of the lines of a study, and how many points each has."""
    points = [point for cell in planned(folder, **changes) for point in points_of(cell)]
    return [(line.title, len(line.points)) for line in series_of(points, "synthesis.count")]


def test_a_line_a_run_where_only_size_and_seed_differ(tmp_path: Path) -> None:
    assert lines_of(tmp_path) == [("SFT", 6), ("per-step DPO", 4)]


def test_lines_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    changed = {"set": {"runs.step_dpo.beta": 0.3, "runs.step_dpo.steps": 3}, "runs": ["step_dpo"]}
    found = lines_of(tmp_path, axes={"synthesis.count": [10, 20]}, points=[changed])
    assert found == [("SFT", 2), ("per-step DPO", 2), ("per-step DPO, beta 0.3", 2)]


def test_an_axis_that_a_run_does_not_read_gives_it_no_line(tmp_path: Path) -> None:
    found = lines_of(tmp_path, axes={"synthesis.count": [10], "runs.step_dpo.beta": [0.1, 0.2]}, points=[])
    assert found == [("SFT", 2), ("per-step DPO, beta 0.1", 1), ("per-step DPO, beta 0.2", 1)]


def test_without_sft_nothing_is_begun(tmp_path: Path, run: Scripted, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path, study_file(tmp_path, runs=["step_dpo"], points=[])) == 2
    assert "study.yaml: runs: a study is read against SFT" in capsys.readouterr().err and not run.ran


def test_a_finished_study_leaves_results_a_page_and_a_figure(
    tmp_path: Path, run: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path, study_file(tmp_path)) == 0
    said = capsys.readouterr().out
    folder = tmp_path / "ledger"
    found = json.loads((folder / "results.json").read_text())
    greedy = found["curves"]["greedy"]
    assert found["order"] == ["SFT", "per-step DPO"] and found["seeds"] == [0, 1] and found["points"] == 10
    errors = {point["size"]: point["error"] for point in greedy["methods"]["SFT"]["points"]}
    assert errors == pytest.approx({10: 6 / 7, 20: 5 / 7, 40: 3 / 7}) and greedy["undecided"] == 2
    assert [point["steps"] for point in greedy["methods"]["per-step DPO"]["points"]] == [8, 8]
    page = (folder / "index.html").read_text()
    assert page.startswith("<!doctype html>") and "optimiser steps" in page and "optimiser steps" in said
    assert (folder / "greedy-curve.svg").read_text().startswith("<svg")
    first = (folder / "results.json").read_bytes()
    assert main(tmp_path, study_file(tmp_path)) == 0
    assert (folder / "results.json").read_bytes() == first


def test_a_key_that_tells_lines_apart_is_swept_with_the_recipe_s_own_value(tmp_path: Path, run: Scripted) -> None:
    more = [{"axes": {"synthesis.count": [20], "runs.step_dpo.beta": [0.05, 0.3]}, "runs": ["step_dpo"]}]
    more += [{"axes": {"synthesis.count": [20], "runs.step_dpo.reading": ["full-solution"]}, "runs": ["step_dpo"]}]
    assert main(tmp_path, study_file(tmp_path, points=more)) == 0
    found = json.loads((tmp_path / "ledger" / "results.json").read_text())["curves"]["greedy"]["sweeps"]
    told = [(sweep["run"], sweep["key"], sweep["size"], [p["value"] for p in sweep["points"]]) for sweep in found]
    assert told == [
        ("step_dpo", "runs.step_dpo.beta", 20, [0.05, 0.1, 0.3]),
        ("step_dpo", "runs.step_dpo.reading", 20, ["full-solution", "shared-prefix"]),
    ]
    assert (tmp_path / "ledger" / "greedy-step_dpo-runs.step_dpo.beta-20.svg").is_file()


def entry_of(point: Any, wrong: int, drawn: int) -> Entry:
    """A finished point that is wrong on the first of 200 problems, and on a share of 4 draws of all."""
    greedy = "0" * wrong + "1" * (200 - wrong)
    ids = [f"p{n:03d}" for n in range(200)]
    body = {"run": point.run, "method": "", "seed": point.cell.recipe.seed, "problems": digest(ids, size=8)}
    made = {"training/it": {"key": point.key, "seconds": 60.0, "steps": 200.0}}
    marks = " ".join([str(4 - drawn)] * 200)
    return Entry(
        key=point.key, greedy=greedy, draws=4, drawn=marks, settings={}, stages=made, versions={"ray": "2"}, **body
    )


def test_data_saved_is_read_inside_the_sizes_of_sft_and_a_bound_beyond(tmp_path: Path) -> None:
    """At 10 problems the pairs are as good as SFT at 20, at 20 better than SFT ever was."""
    axes = {"synthesis.count": [10, 20], "seed": [0, 1, 2]}
    points = [point for cell in planned(tmp_path, axes=axes) for point in points_of(cell)]
    ledger = Ledger(str(tmp_path / "ledger"))
    wrong = {("sft", 10): 120, ("sft", 20): 80, ("sft", 40): 53, ("step_dpo", 10): 80, ("step_dpo", 20): 10}
    for point in points:
        ledger.add(entry_of(point, wrong[point.run, point.cell.size], 2), [f"p{n:03d}" for n in range(200)])
    lines = series_of(points, "synthesis.count")
    found = results("small", "synthesis.count", lines, baseline(lines, "").title, ledger)
    near, far = [point["saved"] for point in found["curves"]["greedy"]["methods"]["per-step DPO"]["points"]]
    assert near["value"] == pytest.approx(2, rel=0.05) and (near["least"], near["most"]) == (1, 4)
    assert saved_text(far) == "> 2x"
    assert found["seconds"] == 60 * len(points) and found["versions"] == {"ray": ["2"]}
    drawn = found["curves"]["drawn"]["methods"]["SFT"]["points"]
    assert [point["error"] for point in drawn] == [0.5, 0.5, 0.5] and drawn[0]["seeds"] == {
        "0": 0.5,
        "1": 0.5,
        "2": 0.5,
    }
