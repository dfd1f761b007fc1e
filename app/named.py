"""What a run made, under names that stay: links in its folder, and an index of addresses, in object storage too.

runs/demo/models/rft                 the weights of run rft, as transformers and vLLM load them
runs/demo/data/step_dpo.jsonl        its data set with TRL's columns; .parquet: with token ids
runs/demo/index.json                 all of them, by address
"""

from __future__ import annotations

import os
import posixpath
import uuid
from collections.abc import Sequence
from pathlib import Path

from app.errors import UserError
from app.plan import Step
from app.policy import trained_policy
from app.recipe import Recipe
from app.store import Output

INDEX = "index.json"
MODELS, DATA = "models", "data"


def name_all(recipe: Recipe, root: str, steps: Sequence[Step]) -> dict[str, dict[str, str]]:
    """Write the index and, where the run lies on a disk, the links; what it holds: models and data sets, by name.

    A name leads to what the recipe makes now, whichever folders earlier versions of it left. Raises UserError where
    something that is no link stands in a link's place.
    """
    done = {step.stage.name: step.output for step in steps if step.state == "done"}
    models, data = {}, {}
    for name in recipe.trained():
        if (trained := done.get(f"training/{name}")) is not None:
            policy = trained_policy(trained)
            models[name] = policy.adapter or policy.path
        if (made := done.get(f"datasets/{name}")) is not None:
            data[f"{name}.jsonl"] = posixpath.join(made.uri, "trl.jsonl")
            data[f"{name}.parquet"] = posixpath.join(made.uri, "part-00000.parquet")
    found = {MODELS: models, DATA: data}
    if "://" not in root:
        for kind, each in found.items():
            found[kind] = {name: _link(Path(root, kind, name), target) for name, target in each.items()}
    Output(root, "", "").write_json(INDEX, found)
    return found


def _link(place: Path, target: str) -> str:
    """Lead a name to a target; the name's path, or the target where that is a model on a hub."""
    if not Path(target).exists():
        return target
    if place.exists() and not place.is_symlink():
        raise UserError(f"{place}: not a link of this run; move it away, then run the same command again")
    place.parent.mkdir(exist_ok=True)
    new = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}")
    new.symlink_to(os.path.relpath(os.path.abspath(target), os.path.abspath(place.parent)))
    os.replace(new, place)
    return str(place)


def told(root: str, found: dict[str, dict[str, str]]) -> list[str]:
    """The same for people: a line a kind, folders where there are links."""
    lines = []
    for kind, title in ((MODELS, "models"), (DATA, "data sets")):
        if names := found[kind]:
            stems = dict.fromkeys(name.removesuffix(".jsonl").removesuffix(".parquet") for name in names)
            lines.append(f"{title}: {posixpath.join(root, kind if '://' not in root else INDEX)} ({', '.join(stems)})")
    return lines
