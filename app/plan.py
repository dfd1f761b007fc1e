"""What a run would do: stage by stage what is reused, what runs, why, and how many tokens it may take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pyarrow import fs as pafs

from app.problems.settings import SynthesisSettings
from app.recipe import Recipe
from app.stage import Stage
from app.store import Output, check_reachable

PREFIXES = 4  # prefixes a trace that a search tries, for the estimate: about log2 of its steps


@dataclass(frozen=True)
class Step:
    """One stage of a plan, with its address and state."""

    stage: Stage
    output: Output
    state: str  # done, partial, new, or left out: where an earlier round kept its start
    shards: int  # written so far, where partial
    changed: tuple[str, ...]  # settings that differ from the latest other output of this stage


def keys_of(stages: list[Stage]) -> dict[str, str]:
    """Key of every stage; a key covers all that lies upstream."""
    keys: dict[str, str] = {}
    for stage in stages:
        keys[stage.name] = stage.key({role: keys[name] for role, name in stage.inputs.items()})
    return keys


def plan(stages: list[Stage], root: str) -> list[Step]:
    """The state of every stage under a run's root. Raises UserError where that cannot be asked."""
    check_reachable(root)
    keys = keys_of(stages)
    steps: dict[str, Step] = {}
    for stage in stages:
        output = find(root, stage, keys[stage.name])
        if output.finished:
            step = Step(stage, output, "done", 0, ())
        elif stage.after and not stage.passes and kept_start(steps[stage.after]):
            step = Step(stage, output, "left out", 0, ())
        else:
            shards = len(output.done_shards())
            step = Step(stage, output, "partial" if shards else "new", shards, _changed(stage, keys, output))
        steps[stage.name] = step
    return list(steps.values())


def find(root: str, stage: Stage, key: str) -> Output:
    """Where a stage's output is: below its name, or where a stage of the same key began it under another name."""
    own = Output(root, stage.name, key)
    if not stage.subject or own.exists():
        return own
    fs, base = Output(root, stage.kind, "").open()
    infos = fs.get_file_info(pafs.FileSelector(base, allow_not_found=True))
    folders = sorted(info.base_name for info in infos if info.type == pafs.FileType.Directory)
    others = [Output(root, f"{stage.kind}/{name}", key) for name in folders]
    return next((other for other in others if other.exists()), own)


def kept_start(step: Step) -> bool:
    """Whether a training stage is done, and no candidate of it was better than what it started from."""
    return step.state == "done" and bool(step.output.manifest()["counts"].get("kept_start"))


def _changed(stage: Stage, keys: dict[str, str], output: Output) -> tuple[str, ...]:
    """Names of the settings and inputs that differ from the newest finished output of the same stage."""
    other = _latest(output)
    if other is None:
        return ()
    now, before = flat(stage.settings), flat(other["settings"])
    differing = [name for name in sorted(now.keys() | before.keys()) if now.get(name) != before.get(name)]
    names = [f"{name}: {before.get(name)} -> {now.get(name)}" for name in differing]
    names += [f"input {name}" for role, name in stage.inputs.items() if other["inputs"].get(role) != keys[name]]
    if other["revision"] != stage.revision:
        names.append(f"revision: {other['revision']} -> {stage.revision}")
    return tuple(names)


def _latest(output: Output) -> dict[str, Any] | None:
    manifests = [other.manifest() for other in siblings(output) if other.key != output.key and other.finished]
    return max(manifests, key=lambda m: m["finished"], default=None)


def siblings(output: Output) -> list[Output]:
    """All outputs of the same stage in this run."""
    fs, base = output.open()
    folder = base.rpartition("/")[0]
    infos = fs.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
    names = [i.base_name for i in infos if i.type == pafs.FileType.Directory]
    return [Output(output.root, output.stage, name) for name in names]


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as one mapping of dotted keys."""
    if not isinstance(value, dict):
        return {prefix: value}
    out: dict[str, Any] = {}
    for key, inner in value.items():
        out |= flat(inner, f"{prefix}.{key}" if prefix else key)
    return out


def tokens_at_most(recipe: Recipe, stage: Stage, problems: int | None) -> int | None:
    """An upper bound of the tokens a sampling stage may write, None where unknown or where none are sampled."""
    name, recipe = stage.kind, stage.recipe or recipe
    synthesis, evaluation, sampling, credit = recipe.synthesis, recipe.evaluation, recipe.sampling, recipe.credit
    if name == "synthesis" and synthesis and synthesis.writer.kind != "world":
        return synthesis_tokens(synthesis)
    if name == "evaluation":
        count = getattr(recipe.problems, evaluation.split)
        return None if count is None else count * (1 + evaluation.samples) * evaluation.max_tokens
    if problems is None:
        return None
    if name == "sampling" and sampling:
        return problems * sampling.samples * sampling.max_tokens
    if name == "credit" and credit:
        traces = credit.traces_per_problem + credit.correct_traces
        return problems * traces * PREFIXES * credit.rollouts * credit.max_tokens
    return None


def synthesis_tokens(settings: SynthesisSettings) -> int:
    """Tokens that writing may take at most: every attempt the budget allows, all votes drawn, all at their limits."""
    vote, budget = settings.vote, settings.budget
    attempts = math.ceil(budget.attempts * settings.count)
    each = (1 + settings.check) * settings.max_tokens + vote.solutions * (vote.max_tokens or settings.max_tokens)
    if settings.difficulty:
        each += settings.difficulty.rollouts * settings.difficulty.max_tokens
    return min(attempts * each, budget.tokens or attempts * each)


def training_problems(recipe: Recipe) -> int | None:
    """How many training problems a run has at most, None where only the source knows."""
    seeds, synthesis = recipe.problems.train, recipe.synthesis
    if synthesis is None:
        return seeds
    if synthesis.keep_seeds:
        return None if seeds is None else seeds + synthesis.count
    return synthesis.count


def table(recipe: Recipe, steps: list[Step]) -> str:
    """The plan as text."""
    problems = training_problems(recipe)
    lines = [f"{'stage':<22}{'state':<22}{'tokens at most':>16}  folder"]
    total, unknown = 0, 0
    for step in steps:
        bound = tokens_at_most(recipe, step.stage, problems)
        samples = step.stage.kind in ("sampling", "credit", "evaluation")
        will_run = step.state not in ("done", "left out")
        unknown += samples and bound is None and will_run
        state = {"done": "reused", "new": "runs", "left out": "left out"}.get(
            step.state, f"goes on ({step.shards} shards)"
        )
        total += bound if bound and will_run else 0
        tokens = f"{bound:,}" if bound else "-"
        lines.append(f"{step.stage.name:<22}{state:<22}{tokens:>16}  {step.output.stage}/{step.output.key}")
        lines += [f"    because {name}" for name in step.changed]
    lines.append(f"tokens to sample at most: {total:,} (every trace at its limit; traces usually end earlier)")
    if unknown:
        lines.append(
            f"and {unknown} stages whose number of problems only the source knows: give problems.train and .test"
        )
    return "\n".join(lines)
