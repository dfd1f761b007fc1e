"""What would stop a run, before anything starts: the base model's tokenizer and template, problems, disk, GPUs.

Whether a model is there at all app/policy.py and app/hub.py have found out by then.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from app.cost import held
from app.errors import UserError
from app.plan import Step
from app.policy import base_policy
from app.problems.stage import load
from app.recipe import Recipe
from app.settings import ModelSettings
from app.tokenizer import load_tokenizer
from jobs.findings import Finding, failed, fine, warning

STATE = 6  # bytes a checkpoint takes for each of the weights', at least: moments and master weights in 32 bits


def findings(recipe: Recipe, root: str, steps: Sequence[Step]) -> list[Finding]:
    """All that can be told now of what is still to run; each part once."""
    to_run = [step for step in steps if step.state not in ("done", "left out")]
    return [
        *_tokenizer(recipe),
        *_problems(recipe, to_run),
        *_disk(recipe, root, to_run),
        *_gpus(recipe, to_run),
    ]


def _tokenizer(recipe: Recipe) -> Iterator[Finding]:
    """Of a model in a folder; that of a hub's is on the hub."""
    path = base_policy(recipe.model).path
    if not Path(path).is_dir():
        yield fine("model", f"{path}, from the hub")
        return
    config = _json(Path(path, "tokenizer_config.json")) | _json(Path(path, "special_tokens_map.json"))
    chat = "chat_template" in config or Path(path, "chat_template.jinja").is_file()
    if not config.get("eos_token") and not _ends(recipe.model):
        yield failed(
            "tokenizer", f"{path}: tokenizer_config.json names no eos_token; set the token that ends an answer"
        )
    elif recipe.rendering.template == "chat" and not chat:
        yield failed("template", f"rendering.template is chat, but {path} has no chat template; use plain")
    else:
        yield fine("model", f"{path}, its tokenizer, {recipe.rendering.template} prompts")
        if recipe.rendering.template == "plain" and chat:
            yield warning("template", "the model has a chat template, which rendering.template: plain leaves unused")


def _ends(model: ModelSettings) -> bool:
    """Whether the tokenizer has an end token by its class (GPT-2's has). Loads it: seconds, for few models."""
    return load_tokenizer(model.path, model.revision, model.trust_remote_code).eos_token_id is not None


def _json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.is_file() else {}


def _problems(recipe: Recipe, to_run: Sequence[Step]) -> Iterator[Finding]:
    """Every row of problem files, as the stage reads them; nothing where that has been done."""
    if recipe.problems.source.kind != "file" or not any(step.stage.name == "problems" for step in to_run):
        return
    try:
        _, counts = load(recipe.problems, recipe.seed)
    except UserError as error:
        yield failed("problems", str(error))
    else:
        yield fine("problems", ", ".join(f"{count:,} {split}" for split, count in counts.items()))


def _disk(recipe: Recipe, root: str, to_run: Sequence[Step]) -> Iterator[Finding]:
    """Room for the models that are still to be written, and for a checkpoint beside them."""
    weights, trainings = _weights(recipe.model), sum(step.stage.kind == "training" for step in to_run)
    if "://" in root or not weights or not trainings:
        return
    place = next(folder for folder in (Path(root).absolute(), *Path(root).absolute().parents) if folder.exists())
    free, models = shutil.disk_usage(place).free, weights * trainings
    text = f"{_gib(free)} free under {place}; {trainings} models take {_gib(models)}"
    if free < models:
        yield failed("disk", f"{text}; free some, or choose another --runs")
    elif free < models + STATE * weights:
        yield warning("disk", f"{text}, and a checkpoint about {_gib(STATE * weights)} more")
    else:
        yield fine("disk", text)


def _weights(model: ModelSettings) -> int:
    """Bytes of a model's weights in a folder, 0 where they are elsewhere."""
    folder = Path(base_policy(model).path)
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else 0


def _gib(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB" if size >= 2**28 else f"{size / 2**20:,.1f} MiB"


def _gpus(recipe: Recipe, to_run: Sequence[Step]) -> Iterator[Finding]:
    """Whether this machine has the GPUs that one worker or engine needs. A cluster's are not known from here."""
    if os.environ.get("RAY_ADDRESS") or Path("/dev/kfd").exists():
        return
    here, told = gpus_here(), set[str]()
    for step in to_run:
        pool, kind = held(recipe, step.stage.name), step.stage.kind
        least = pool.gpus if kind == "training" else pool.gpus / max(1, pool.actors)  # fewer engines only take longer
        if least > here and kind not in told:
            told.add(kind)
            yield failed(
                "GPUs",
                f"{kind} asks for {least:g} GPUs and this machine has {here}: start it on a cluster that has them "
                "(README, On a cluster), or change the recipe's placement",
            )
    if here and not told:
        yield fine("GPUs", f"{here} on this machine")


def gpus_here() -> int:
    """GPUs of this machine that a process may use, by their device files: nothing is imported for it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([one for one in visible.split(",") if one.strip() not in ("", "-1")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def told(found: Sequence[Finding]) -> str:
    """The findings as text, those that are well in one line."""
    well = [f"{finding.subject} ({finding.text})" for finding in found if finding.state == "ok"]
    lines = [str(finding) for finding in found if finding.state != "ok"]
    return "\n".join(([f"ready: {'; '.join(well)}"] if well else []) + lines)


def refuse(found: Sequence[Finding]) -> None:
    """Raise UserError with all that would stop the run."""
    faults = [f"{finding.subject}: {finding.text}" for finding in found if finding.state == "FAIL"]
    if faults:
        raise UserError("nothing was started: " + "\n".join(faults))
