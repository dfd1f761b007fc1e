"""Step values, first pits and pairs of traces that others wrote: stages of a run over a file in place of a sampler."""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.datasets.prm import StepLabel, stepwise
from app.given.rows import source_digest
from app.given.traces import Columns, GivenTraces
from app.graph import Builder
from app.methods import find
from app.policy import base_policy
from app.problems.select import write_problems
from app.recipe import Recipe
from app.records import StepValue, Trace, Verdict
from app.rendering import Renderer
from app.stage import Stage, StageContext
from app.store import Output

SHARD = 32  # problems a shard
SETS = ("step_dpo", "prm")


def recipe_body(traces: str, model: str, given: GivenTraces) -> dict[str, Any]:
    """A recipe that says how to look at the traces, before overrides: every distinct wrong one of each prompt."""
    return {
        "name": "credit",
        "model": {"path": model},
        "rendering": given.rendering.model_dump(),
        "problems": {"source": {"kind": "file", "train": traces, "test": traces}},
        "sampling": {"problems_per_shard": SHARD},
        "credit": {"traces_per_problem": given.most},
        "runs": {"step_dpo": {"method": "step_dpo", "epochs": 1, "min_q_before": 0.25}, "prm": {"method": "prm"}},
    }


def credit_stages(recipe: Recipe, source: str, columns: Columns, given: GivenTraces) -> list[Stage]:
    """The stages: problems, traces and verdicts out of the file, credit, and its two data sets."""
    assert recipe.credit
    builder = Builder(recipe)
    rows = {"rows": source_digest(source), "columns": vars(columns), **builder.common}
    builder.add("problems", lambda c: write_problems(c.output, given.problems(), {}), rows, {})
    problems = {"problems": "problems"}
    builder.add("sampling/given", lambda c: _write_traces(c, given), rows, problems)
    read = problems | {"sampling": "sampling/given"}
    if given.judged:
        builder.add("verification/given", lambda c: _write_verdicts(c, given), {"verifier": None} | rows, read)
    else:
        builder.add("verification/given", "app.verification.stage", {"verifier": builder.verifier}, read)
    read |= {"verification": "verification/given"}
    settings = recipe.credit.deciding() | builder.judged | builder.served("sampling") | {"every": True}
    builder.add("credit/given", "app.given.credit_stage", settings, read, policy=recipe.model)
    read |= {"credit": "credit/given", "held_out": "problems"}
    for name in SETS:
        data = recipe.trained()[name].data
        chosen = data.model_dump(mode="json") | {"method": name} | builder.seeded
        more = {"method": find(name), "data": data, "may_be_empty": True}
        builder.add(f"datasets/{name}", "app.datasets.stage", chosen, read, **more)
    return list(builder.out.values())


def _slices(given: GivenTraces) -> int:
    return -(-len(given.asked) // SHARD)


def _write_traces(context: StageContext, given: GivenTraces) -> None:
    model = context.recipe.model
    path = base_policy(model).path
    renderer = Renderer(path, context.recipe.rendering, model.revision, model.trust_remote_code)
    for index in context.pending(_slices(given)):
        traces = given.traces(slice(index * SHARD, (index + 1) * SHARD), renderer)
        context.output.write_shard(index, Trace.table(traces))


def _write_verdicts(context: StageContext, given: GivenTraces) -> None:
    for index in context.pending(_slices(given)):
        verdicts = given.verdicts(slice(index * SHARD, (index + 1) * SHARD))
        context.output.write_shard(index, Verdict.table(verdicts))


# -- what comes out ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """Files that were written, and what is in them."""

    files: dict[str, str]  # name -> address
    counts: dict[str, int]


def write_found(root: str, outputs: dict[str, Output], given: GivenTraces) -> Found:
    """Write what credit found beside its stages.

    values.jsonl: a line a distinct trace, its steps with their values; values.parquet: a row a step. pits.jsonl: a line
    a first pit. pairs.jsonl: TRL's columns of per-step DPO; pairs.parquet: the same with token ids. prm.jsonl: step
    labels as PRM trainers read them.
    """
    place = Output(root, "", "")
    values = list(outputs["credit/given"].tables())
    outcomes = {v.trace_id: v.outcome for t in outputs["verification/given"].tables() for v in Verdict.from_table(t)}
    lines = list(_traces(given, values, outcomes))
    pits = [_pit(line) for line in lines if line["pit"] is not None]
    pairs = outputs["datasets/step_dpo"].read()
    labels = stepwise(StepLabel.from_table(outputs["datasets/prm"].read()))
    _jsonl(place, "values.jsonl", lines)
    _parquet(place, "values.parquet", pa.concat_tables(values) if values else StepValue.table([]))
    _jsonl(place, "pits.jsonl", pits)
    _jsonl(place, "pairs.jsonl", pairs.select(PAIR_COLUMNS).to_pylist())
    _parquet(place, "pairs.parquet", pairs)
    _jsonl(place, "prm.jsonl", labels.to_pylist())
    names = ("values.jsonl", "values.parquet", "pits.jsonl", "pairs.jsonl", "pairs.parquet", "prm.jsonl")
    ends = Counter(line["outcome"] for line in lines)
    counts = {"traces": len(lines), **ends, "valued": sum(bool(line["steps"]) for line in lines)}
    counts |= {"pits": len(pits), "pairs": pairs.num_rows, "labelled traces": labels.num_rows}
    return Found({name: posixpath.join(root, name) for name in names}, counts)


PAIR_COLUMNS = ["prompt", "chosen", "rejected", "q_before", "q_after", "step", "confidence"]


def _traces(given: GivenTraces, values: Sequence[pa.Table], outcomes: dict[str, str]) -> Iterator[dict[str, Any]]:
    """A line a distinct trace, in the order of the problems."""
    steps: dict[str, list[StepValue]] = {}
    for table in values:
        for value in StepValue.from_table(table):
            steps.setdefault(value.trace_id, []).append(value)
    for each in given.asked:
        for sample in each.samples.values():
            mine = sorted(steps.get(sample.id, []), key=lambda value: value.step)
            yield {
                "rows": sample.places,
                "trace_id": sample.id,
                "prompt": each.problem.statement,
                "completion": sample.text,
                "answer": each.problem.answer,
                "outcome": outcomes[sample.id],
                "q": mine[0].q if mine else None,  # of the bare prompt
                "pit": next((value.step for value in mine if value.first_pit), None),
                "steps": [_step(value) for value in mine[1:]],
            }


STEP = ("step", "text", "q", "low", "high", "correct", "judged", "advantage", "first_pit", "confidence", "wrong_sums")


def _step(value: StepValue) -> dict[str, Any]:
    return {name: getattr(value, name) for name in STEP}


def _pit(line: dict[str, Any]) -> dict[str, Any]:
    at, steps = line["pit"], line["steps"]
    before = line["q"] if at == 1 else steps[at - 2]["q"]
    here = steps[at - 1]
    return {
        "rows": line["rows"],
        "trace_id": line["trace_id"],
        "prompt": line["prompt"],
        "prefix": "".join(step["text"] for step in steps[: at - 1]),
        "step": at,
        "text": here["text"],
        "q_before": before,
        "q_after": here["q"],
        "confidence": here["confidence"],
        "wrong_sums": here["wrong_sums"],
    }


def _jsonl(place: Output, name: str, rows: Iterable[dict[str, Any]]) -> None:
    with place.atomic(name) as sink:
        for row in rows:
            sink.write((json.dumps(row, ensure_ascii=False) + "\n").encode())


def _parquet(place: Output, name: str, table: pa.Table) -> None:
    with place.atomic(name) as sink:
        pq.write_table(table, sink, compression="zstd")
