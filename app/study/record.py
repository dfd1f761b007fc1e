"""An entry of the ledger, made of a cell's finished stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.plan import Step
from app.records import digest
from app.report.results import answers_of
from app.store import Output
from app.study.cells import Point
from app.study.ledger import Entry, Ledger, marks

KEPT = ("tokens", "steps")  # counts of a stage that an entry keeps


def record(ledger: Ledger, point: Point, steps: Mapping[str, Step]) -> None:
    """Keep a point whose evaluation stage is finished.

    Args:
        steps: the plan of the point's cell, by name of the stage.
    """
    made_by = {name: steps[name].output for name in upstream(steps, point.stage) if steps[name].state == "done"}
    manifests = {name: output.manifest() for name, output in made_by.items()}
    ids, greedy, drawn, draws = marks(answers_of(made_by[point.stage]))
    run = point.cell.recipe.trained()[point.run]
    entry = Entry(
        key=point.key,
        run=point.run,
        method=run.method.name,
        seed=point.cell.recipe.seed,
        problems=digest(ids, size=8),
        greedy=greedy,
        draws=draws,
        drawn=drawn,
        settings={name: manifests[name]["settings"] for name in own(steps, point.stage) if name in manifests},
        stages={name: _kept(made_by[name], manifest) for name, manifest in manifests.items()},
        versions=manifests[point.stage]["versions"],
    )
    ledger.add(entry, ids)


def upstream(steps: Mapping[str, Step], stage: str) -> list[str]:
    """A stage and all that it is made from, in the order of the plan."""
    wanted, look = set[str](), [stage]
    while look:
        name = look.pop()
        if name not in wanted:
            wanted.add(name)
            look += steps[name].stage.inputs.values()
    return [name for name in steps if name in wanted]


def own(steps: Mapping[str, Step], stage: str) -> list[str]:
    """A policy's data set, training and evaluation: the settings that are its own."""
    training = steps[stage].stage.inputs["policy"]
    return [steps[training].stage.inputs["dataset"], training, stage]


def _kept(output: Output, manifest: Mapping[str, Any]) -> dict[str, Any]:
    counts = {name: manifest["counts"][name] for name in KEPT if name in manifest["counts"]}
    return {"key": output.key, "seconds": manifest["seconds"], "rows": manifest["rows"], **counts}
