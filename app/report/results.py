"""results.json: every number of the report, from the finished outputs of a run and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow.compute as pc

from app.cost import total
from app.evaluation.answers import Answers, read, summary
from app.evaluation.metrics import paired
from app.methods import find
from app.recipe import Recipe
from app.records import OUTCOMES
from app.report.colours import colours
from app.report.costs import by_difficulty, costs, stage_cost
from app.report.engines import engine_use
from app.report.synthesis import synthesis
from app.report.table import tokens_of
from app.settings import Prices
from app.store import Output
from app.verification.verifier import verifier_of

FORMAT = 2  # of results.json; bumped when a key changes its meaning

Shown = Mapping[
    str, Mapping[str, str | None]
]  # policy -> its stages: "evaluation" and, where it was trained, "training"


def results(recipe: Recipe, inputs: Mapping[str, Output], shown: Shown) -> dict[str, Any]:
    """Everything the report shows, as JSON values.

    Args:
        recipe: the run's recipe, kept in the results as it was.
        inputs: finished outputs by stage name; what a recipe leaves out, or a round made needless, may be absent.
        shown: the policies to tell of, in order.
    """
    manifests = {name: output.manifest() for name, output in inputs.items()}
    asked = {policy: str(stages["evaluation"]) for policy, stages in shown.items()}
    answers = {policy: answers_of(inputs[stage]) for policy, stage in asked.items() if stage in inputs}
    baseline = baseline_of(recipe, list(answers))
    stages = [_stage(name, manifest, recipe.prices) for name, manifest in manifests.items()]
    samples = {
        name.partition("/")[2]: _samples(name, inputs, manifests) for name in inputs if name.startswith("sampling/")
    }
    equivalent = verifier_of(recipe.verification).equivalent
    methods = {policy: _method(policy, answers, baseline, manifests, shown, equivalent) for policy in answers}
    accepted = sum(each["yield"]["outcomes"]["correct"] for each in samples.values() if each["yield"])
    return {
        "format": FORMAT,
        "run": recipe.name,
        "evaluation": recipe.evaluation.model_dump(mode="json"),
        "baseline": baseline,
        "order": list(methods),  # a file of results is sorted by key
        "titles": titles(recipe, list(methods)),
        "colours": {name: list(pair) for name, pair in colours(recipe, list(methods)).items()},
        "methods": methods,
        "differences": differences(answers),
        "synthesis": _synthesis(inputs, stages),
        "samples": samples,
        "rounds": {name: _rounds(name, recipe, methods, samples, stages) for name in chains(recipe)},
        "datasets": {
            name.partition("/")[2]: manifest["rows"]
            for name, manifest in manifests.items()
            if name.startswith("datasets/")
        },
        "stages": stages,
        "cost": costs(recipe.prices, stages, accepted),
        "recipe": recipe.model_dump(mode="json"),
        "versions": _versions(manifests),
    }


def baseline_of(recipe: Recipe, policies: list[str]) -> str | None:
    """What others are compared with: the first run of method sft, or else the base model."""
    first = next((name for name, run in recipe.trained().items() if run.method.name == "sft"), None)
    return first if first in policies else "base" if "base" in policies else None


def differences(answers: Mapping[str, Answers]) -> dict[str, dict[str, Any]]:
    """Accuracy of each policy minus that of each one before it, paired by problem: policy -> other -> estimate."""
    names = list(answers)
    return {
        name: {other: paired(answers[name].greedy, answers[other].greedy).difference.json() for other in names[:place]}
        for place, name in enumerate(names)
        if place
    }


def titles(recipe: Recipe, policies: list[str]) -> dict[str, str]:
    """What tables and figures call each policy: a method's title where the run has the method's name, else its own."""
    found = {}
    for policy in policies:
        run = recipe.runs.get(policy)
        found[policy] = find(policy).title if run and run.get("method") == policy else policy
    return found


def chains(recipe: Recipe) -> list[str]:
    """Runs of several rounds."""
    return [name for name, run in recipe.trained().items() if run.rounds]


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
    policy: str,
    answers: dict[str, Answers],
    baseline: str | None,
    manifests: dict[str, dict[str, Any]],
    shown: Shown,
    equivalent: Callable[[str, str], bool],
) -> dict[str, Any]:
    body = summary(answers[policy], equivalent)
    counts = manifests[str(shown[policy]["evaluation"])]["counts"]
    body["problems"] = len(answers[policy].greedy)
    body["skipped"] = int(counts.get("skipped_prompts", 0))
    body["tokens"] = int(counts.get("tokens", 0))
    body["unfinished"] = int(counts.get("unfinished_greedy", 0))
    body["bad_references"] = int(counts.get("bad_references", 0))
    body["versus"] = None
    if baseline is not None and policy != baseline:
        compared = paired(answers[policy].greedy, answers[baseline].greedy)
        body["versus"] = {
            "baseline": baseline,
            "difference": compared.difference.json(),
            "gained": compared.gained,
            "lost": compared.lost,
            "undecided": compared.undecided,
            "p_value": compared.p_value,
        }
    training = manifests.get(shown[policy]["training"] or "")
    body["training"] = None if training is None else {**training["counts"], "wall_seconds": training["seconds"]}
    return body


def _synthesis(inputs: Mapping[str, Output], stages: list[dict[str, Any]]) -> dict[str, Any] | None:
    mine = next((stage for stage in stages if stage["stage"] == "synthesis"), None)
    return synthesis(inputs["synthesis"], mine) if mine else None


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


def _samples(name: str, inputs: Mapping[str, Output], manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What one policy's samples gave: yield, how busy its engines were, and what credit made of its wrong traces."""
    sampling = inputs[name]

    def of(kind: str) -> Output | None:
        """The stage of a kind that reads these samples."""
        reads = (n for n, m in manifests.items() if n.startswith(kind) and m["inputs"].get("sampling") == sampling.key)
        return next((inputs[each] for each in reads), None)

    verification, credit = of("verification/"), of("credit/")
    return {
        "yield": _yield(sampling, verification) if verification else None,
        "engines": engine_use(sampling),
        "credit": _credit(credit) if credit else None,
    }


def _yield(sampling: Output, verification: Output) -> dict[str, Any]:
    """What became of the sampled traces."""
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
    tokens = int(sampling.manifest()["counts"].get("tokens", 0))
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
    }


def _credit(output: Output) -> dict[str, Any]:
    """How many wrong traces were searched and where they went wrong."""
    traces = pits = valued = 0
    for everything in output.tables(["trace_id", "q", "first_pit", "right"]):
        table = everything.filter(pc.invert(everything["right"]))  # credit may look at right traces as well
        traces += len(pc.unique(table["trace_id"]))  # a shard holds whole traces
        pits += pc.sum(table["first_pit"]).as_py() or 0
        valued += len(table) - table["q"].null_count
    return {
        "traces": traces,
        "first_pits": pits,
        "prefixes": valued,
        "tokens": int(output.manifest()["counts"].get("tokens", 0)),
    }


def _rounds(
    name: str, recipe: Recipe, methods: dict[str, Any], samples: dict[str, Any], stages: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """A row a round of a chain: what it sampled, what that gave and cost, and how good its policy is."""
    run = recipe.trained()[name]
    assert run.rounds
    by_name = {stage["stage"]: stage for stage in stages}
    last, rows = run.rounds.count, []
    for number in range(1, last + 1):
        policy = name if number == last else f"{name}-{number}"
        sampled = run.samples if number == 1 else (f"{name}-{number - 1}",)
        kinds = [f"{kind}/{each}" for each in sampled for kind in ("sampling", "verification", "credit")]
        mine = [by_name[s] for s in (*kinds, f"datasets/{policy}", f"training/{policy}") if s in by_name]
        training = by_name.get(f"training/{policy}")
        counts = training["counts"] if training else {}
        yields = [samples[each]["yield"] for each in sampled if each in samples and samples[each]["yield"]]
        rows.append(
            {
                "round": number,
                "policy": policy,
                "trained": f"datasets/{policy}" in by_name,
                "kept_start": bool(counts.get("kept_start")),
                "model_step": counts.get("model_step"),
                "validation": counts.get("validation_accuracy"),
                "accuracy": methods[policy]["accuracy"] if policy in methods else None,
                "traces": sum(each["traces"] for each in yields),
                "correct": sum(each["outcomes"]["correct"] for each in yields),
                "rows": by_name[f"datasets/{policy}"]["rows"] if f"datasets/{policy}" in by_name else 0,
                "tokens": sum(stage["tokens"] for stage in mine),
                "seconds": sum(stage["seconds"] for stage in mine),
                "cost": total(stage["cost"] for stage in mine),
            }
        )
    return rows
