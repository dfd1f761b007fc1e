"""Each part alone, as functions: for notebooks and for programs of your own. Importing this starts nothing.

    from app import api

    found = api.credit("traces.jsonl", model="Qwen/Qwen3-0.6B", out="runs/credit")
    model = api.train("step_dpo", "runs/credit/pairs.jsonl", model="Qwen/Qwen3-0.6B", out="runs/mine")

A function starts a private Ray for its own time, or uses that of RAY_ADDRESS or of the process; the same call goes on
where it was stopped. Keys of `settings` are those of a recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.errors import UserError
from app.given.traces import Columns
from app.hub import pinned
from app.methods import find
from app.policy import Policy, trained_policy
from app.recipe import Recipe, made
from app.stage import Stage
from app.store import Output

if TYPE_CHECKING:
    from app.given.credit import Found


def credit(traces: str, model: str, out: str, settings: Sequence[str] = (), columns: Columns | None = None) -> Found:
    """Step values, first pits and per-step DPO pairs of traces that others wrote.

    Args:
        traces: JSONL or Parquet file with a prompt and a completion a row, and a reference answer or a verdict
            (app/given/traces.py).
        model: the policy whose rollouts give the values: a folder, a hub name, or `world`.
        out: folder or URI for the stages and the files they end in.
        settings: `KEY=VALUE` of a recipe, such as `credit.rollouts=16` or `placement.sampling.gpus=1`.
        columns: names of the columns, where they are others.

    Raises UserError where a row, a setting or the model is not as it should be.
    """
    from app.given.credit import credit_stages, recipe_body, write_found
    from app.given.traces import read_traces

    columns = columns or Columns()
    given = read_traces(traces, columns)
    recipe = pinned(made(recipe_body(traces, model, given), settings, "credit"), out)
    return write_found(out, _run(recipe, out, credit_stages(recipe, traces, columns, given)), given)


def train(method: str, data: str, model: str, out: str, settings: Sequence[str] = ()) -> Policy:
    """Train on rows that others wrote.

    Args:
        method: sft, rft, dpo, step_dpo, kto or another that trains (app/methods.py).
        data: JSONL or Parquet file, folder of Parquet files, or a hub's data set, NAME or NAME:SPLIT, with TRL's
            columns or our own (app/given/examples.py).
        model: weights to start from: a folder, a hub name, or `world`.
        out: folder or URI for the stages; the same call goes on from the last checkpoint there.
        settings: `KEY=VALUE` of the run, such as `steps=200` or `beta=0.2`, or of the recipe around it, such as
            `placement.training.gpus=1`. Without a length: one epoch.

    Returns:
        The trained weights; `path` is their folder.

    Raises UserError where a row, a setting or the model is not as it should be.
    """
    from app.given.train import overrides, recipe_body, train_stages

    find(method)
    recipe = pinned(made(recipe_body(method, data, model), overrides(method, settings), method), out)
    return trained_policy(_run(recipe, out, train_stages(recipe, method, data))[f"training/{method}"])


def _run(recipe: Recipe, out: str, stages: list[Stage]) -> dict[str, Output]:
    """Outputs of the stages, by name, once all are done."""
    from app.cluster import ray_session

    with ray_session():
        from app.pipeline import run_stages  # imports ray, whose doors are closed by now

        steps = run_stages(recipe, out, stages)
    unfinished = [step.stage.name for step in steps if step.state != "done"]
    if unfinished:
        raise UserError(f"{out}: {unfinished[0]} has not run to its end; call it again")
    return {step.stage.name: step.output for step in steps}
