"""Names of models and data sets on a hub, resolved to commits: what `main` was when a run first met it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pyarrow import fs as pafs

from app.errors import UserError
from app.recipe import Recipe
from app.settings import ModelSettings
from app.store import Output

FILE = "commits.json"  # of a run: {"model NAME@REVISION": commit}
COMMIT = re.compile(r"[0-9a-f]{40}")


def pinned(recipe: Recipe, root: str, save: bool = True) -> Recipe:
    """The recipe with a commit as revision of every hub model and data set: keys, manifests and loads then name it.

    A run keeps what it found: the same command goes on with the same weights although the branch has moved on. For
    newer ones give another revision, or take the name out of commits.json in the run's folder.

    Args:
        root: folder or URI of the run.
        save: remember new ones there.

    Raises UserError where the hub does not know a name or cannot be asked.
    """
    known = before = _read(root)
    found = recipe
    for kind, keys, name, revision in _hub_names(recipe):
        asked = f"{kind} {name}@{revision or 'main'}"
        if asked not in known:
            known = known | {asked: commit(kind, name, revision, ".".join(keys))}
        found = _with(found, keys, known[asked])
    if save and known != before:
        Output(root, "", "").write_json(FILE, known)
    return found


def commit(kind: str, name: str, revision: str | None, field: str) -> str:
    """The commit that a branch, a tag or nothing (the main branch) means now; offline, in this machine's copy."""
    from huggingface_hub import HfApi, is_offline_mode, snapshot_download
    from huggingface_hub.errors import HTTPError

    try:
        if is_offline_mode():
            return Path(snapshot_download(name, revision=revision, repo_type=kind, local_files_only=True)).name
        found = HfApi().repo_info(name, revision=revision, repo_type=kind).sha
    except (HTTPError, OSError, ValueError) as error:  # ValueError: not a name that a hub could have
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        told = "give a folder or a hub name, or a commit of 40 digits as revision, which needs no look-up"
        raise UserError(f"{field}: cannot resolve {kind} {name}@{revision or 'main'}: {said}; {told}") from None
    if not found:
        raise UserError(f"{field}: the hub names no commit of {kind} {name}; give one as revision")
    return found


def _read(root: str) -> dict[str, str]:
    place = Output(root, "", "")
    fs, folder = place.open()
    there = fs.get_file_info(f"{folder.rstrip('/')}/{FILE}").type == pafs.FileType.File
    return place.read_json(FILE) if there else {}


def _hub_names(recipe: Recipe) -> list[tuple[str, tuple[str, ...], str, str | None]]:
    """(kind, keys of the revision in the recipe, name, revision) of all that must still be resolved."""
    models: list[tuple[tuple[str, ...], ModelSettings]] = [(("model",), recipe.model)]
    models += [(("models", name), model) for name, model in recipe.models.items()]
    if recipe.synthesis and recipe.synthesis.writer.kind == "vllm":
        models.append((("synthesis", "writer", "weights"), recipe.synthesis.writer.weights))
    names: list[tuple[str, tuple[str, ...], str, str | None]] = [
        ("model", (*keys, "revision"), model.path, model.revision) for keys, model in models if model.path != "world"
    ]
    source = recipe.problems.source
    if source.kind == "hub":
        names.append(("dataset", ("problems", "source", "revision"), source.name, source.revision))
    return [one for one in names if _on_hub(one[2]) and not COMMIT.fullmatch(one[3] or "")]


def _on_hub(name: str) -> bool:
    return not (Path(name).exists() or name.startswith((".", "/", "~")) or "://" in name)


def _with(part: Any, keys: tuple[str, ...], value: str) -> Any:
    """A copy of nested settings with one value changed."""
    if isinstance(part, dict):
        return part | {keys[0]: _with(part[keys[0]], keys[1:], value)}
    inner = value if len(keys) == 1 else _with(getattr(part, keys[0]), keys[1:], value)
    return part.model_copy(update={keys[0]: inner})
