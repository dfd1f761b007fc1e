"""Training on rows that others wrote: the training stage of a run, over a file in place of a data set stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from app.datasets.export import export, trl_table
from app.errors import UserError
from app.given.examples import record_of, tables
from app.given.rows import rows_of, source_digest
from app.graph import Builder
from app.methods import find
from app.policy import base_policy
from app.recipe import Recipe
from app.rendering import Renderer
from app.runs import BASE
from app.stage import Stage, StageContext


def recipe_body(method: str, data: str, model: str) -> dict[str, Any]:
    """A recipe that trains by one method, before overrides: one epoch."""
    return {
        "name": method,
        "model": {"path": model},
        "problems": {"source": {"kind": "file", "train": data, "test": data}},
        "sampling": {},
        "credit": {},
        "runs": {method: {"method": method}},
    }


def overrides(method: str, settings: Sequence[str]) -> list[str]:
    """Overrides of the recipe: settings of the run need no `runs.METHOD.` before them; one epoch by default."""
    lengths = ("steps=", "epochs=")
    found = [
        setting if setting.partition("=")[0].partition(".")[0] in Recipe.model_fields else f"runs.{method}.{setting}"
        for setting in settings
    ]
    given = any(setting.removeprefix(f"runs.{method}.").startswith(lengths) for setting in found)
    return found if given else [*found, f"runs.{method}.epochs=1"]


def train_stages(recipe: Recipe, method: str, source: str) -> list[Stage]:
    """The data set out of the file, and the training. Raises UserError where the run asks for what no file gives."""
    run = recipe.trained()[method]
    kind = record_of(find(method))
    if run.training and run.training.judged:
        raise UserError(
            f"{method}: evaluate_every and gate need validation problems, which a recipe has; leave them out"
        )
    if run.rounds or run.init != BASE:
        raise UserError(f"{method}: rounds and init belong to a recipe; give the weights to start from as the model")
    builder = Builder(recipe)

    def write(context: StageContext) -> None:
        model = recipe.model
        renderer = Renderer(base_policy(model).path, recipe.rendering, model.revision, model.trust_remote_code)
        found = list(tables(rows_of(source), kind, renderer))
        if not found:
            raise UserError(f"{source}: no rows in it")
        table = pa.concat_tables(found)
        export(context.output, trl_table(table))
        context.output.write_shard(0, table, {"rows": float(table.num_rows)})

    settings = {"rows": source_digest(source), "method": method, **builder.common}
    dataset = builder.add(f"datasets/{method}", write, settings, {})
    builder.train(method, run, dataset, BASE)
    return list(builder.out.values())
