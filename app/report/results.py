"""results.json: every number of the report, from the finished outputs of a run and nothing else."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from app.evaluation.answers import Answers, read, summary
from app.evaluation.metrics import paired
from app.recipe import Recipe
from app.records import OUTCOMES
from app.report.costs import by_difficulty, costs, stage_cost
from app.report.engines import engine_use
from app.report.table import tokens_of
from app.settings import Prices
from app.store import Output
from app.verification import equivalent

FORMAT = 1  # of results.json; bumped when a key changes its meaning
METHODS = ("base", "sft", "rft", "dpo", "step_dpo")


def results(recipe: Recipe, inputs: dict[str, Output]) -> dict[str, Any]:
    """Everything the report shows, as JSON values.

    Args:
        recipe: the run's recipe, kept in the results as it was.
        inputs: finished outputs by stage name; any stage a recipe leaves out may be absent.
    """
    manifests = {name: output.manifest() for name, output in inputs.items()}
    answers = {m: answers_of(inputs[f"evaluation/{m}"]) for m in METHODS if f"evaluation/{m}" in inputs}
    baseline = "sft" if "sft" in answers else "base" if "base" in answers else None
    stages = [_stage(name, manifest, recipe.prices) for name, manifest in manifests.items()]
    yielded = _yield(inputs, manifests)
    return {
        "format": FORMAT,
        "run": recipe.name,
        "evaluation": recipe.evaluation.model_dump(mode="json"),
        "baseline": baseline,
        "methods": {
            method: _method(method, answers, baseline, manifests)  # in the order of METHODS
            for method in answers
        },
        "yield": yielded,
        "engines": engine_use(inputs["sampling"]) if "sampling" in inputs else [],
        "credit": _credit(inputs, manifests),
        "stages": stages,
        "cost": costs(recipe.prices, stages, yielded["outcomes"]["correct"] if yielded else 0),
        "recipe": recipe.model_dump(mode="json"),
        "versions": _versions(manifests),
    }


def answers_of(output: Output) -> Answers:
    """Outcomes of one evaluation stage, shard by shard."""
    return read(
        (
            output.read_shard(index, ["id", "problem_id", "sample"]),
            output.read_shard(index, ["trace_id", "outcome", "extracted"], kind="verdicts"),
        )
        for index in output.done_shards()
    )


def _method(
    method: str, answers: dict[str, Answers], baseline: str | None, manifests: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    body = summary(answers[method], equivalent)
    counts = manifests[f"evaluation/{method}"]["counts"]
    body["problems"] = len(answers[method].greedy)
    body["skipped"] = int(counts.get("skipped_prompts", 0))
    body["tokens"] = int(counts.get("tokens", 0))
    body["unfinished"] = int(counts.get("unfinished_greedy", 0))
    body["bad_references"] = int(counts.get("bad_references", 0))
    body["versus"] = None
    if baseline is not None and method != baseline:
        compared = paired(answers[method].greedy, answers[baseline].greedy)
        body["versus"] = {
            "baseline": baseline,
            "difference": compared.difference.json(),
            "gained": compared.gained,
            "lost": compared.lost,
            "undecided": compared.undecided,
            "p_value": compared.p_value,
        }
    training = manifests.get(f"training/{method}")
    body["training"] = None if training is None else {**training["counts"], "wall_seconds": training["seconds"]}
    return body


def _stage(name: str, manifest: dict[str, Any], prices: Prices | None) -> dict[str, Any]:
    kept = ("key", "revision", "settings", "inputs", "shards", "rows", "counts", "seconds", "started", "finished")
    body = {"stage": name, **{key: manifest[key] for key in kept}, "tokens": tokens_of(name, manifest["counts"])}
    return body | stage_cost(prices, name, manifest)


def _versions(manifests: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Library versions the stages ran with: more than one where a run went on after an update."""
    found: dict[str, set[str]] = {}
    for manifest in manifests.values():
        for name, version in manifest["versions"].items():
            found.setdefault(name, set()).add(version)
    return {name: sorted(versions) for name, versions in sorted(found.items())}


def _yield(inputs: dict[str, Output], manifests: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """What became of the sampled traces; None where a recipe samples none."""
    if "sampling" not in inputs or "verification" not in inputs:
        return None
    sampling, verification = inputs["sampling"], inputs["verification"]
    outcomes = dict.fromkeys(OUTCOMES, 0)
    problems = solved = unfinished = bad_references = 0
    for index in verification.done_shards():
        problem_of = dict(zip(*sampling.read_shard(index, ["id", "problem_id"]).to_pydict().values(), strict=True))
        right: set[str] = set()
        bad: set[str] = set()
        for row in verification.read_shard(index, ["trace_id", "outcome", "reason"]).to_pylist():
            outcomes[row["outcome"]] += 1
            unfinished += row["reason"] == "unfinished"
            if row["reason"] == "bad-reference":
                bad.add(problem_of[row["trace_id"]])
            if row["outcome"] == "correct":
                right.add(problem_of[row["trace_id"]])
        problems += len(set(problem_of.values()))
        solved += len(right)
        bad_references += len(bad)
    tokens = int(manifests["sampling"]["counts"].get("tokens", 0))
    return {
        "problems": problems,
        "problems_solved": solved,
        "traces": sum(outcomes.values()),
        "outcomes": outcomes,
        "unfinished": unfinished,  # traces that did not end by themselves
        "bad_references": bad_references,  # problems whose reference cannot be read
        "tokens": tokens,
        "tokens_per_accepted": tokens / outcomes["correct"] if outcomes["correct"] else None,
        "difficulty": by_difficulty(sampling, verification),
        "datasets": {
            name.partition("/")[2]: manifest["rows"]
            for name, manifest in manifests.items()
            if name.startswith("datasets/")
        },
    }


def _credit(inputs: dict[str, Output], manifests: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """How many wrong traces were searched and where they went wrong; None where a recipe has no credit."""
    if "credit" not in inputs:
        return None
    traces = pits = valued = 0
    for everything in inputs["credit"].tables(["trace_id", "q", "first_pit", "right"]):
        table = everything.filter(pc.invert(everything["right"]))  # credit may look at right traces as well
        traces += len(pc.unique(table["trace_id"]))  # a shard holds whole traces
        pits += pc.sum(table["first_pit"]).as_py() or 0
        valued += len(table) - table["q"].null_count
    return {
        "traces": traces,
        "first_pits": pits,
        "prefixes": valued,
        "tokens": int(manifests["credit"]["counts"].get("tokens", 0)),
    }
