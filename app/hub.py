"""Names of models and data sets on a hub, resolved to commits: what `main` was when a run first met it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pyarrow import fs as pafs

from app.errors import UserError
from app.policy import check_weights
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

    Raises UserError where the hub does not know a name or cannot be asked, or where a model's weights are pickles.
    """
    known = before = _read(root)
    found = recipe
    for kind, keys, name, revision in _hub_names(recipe):
        asked = f"{kind} {name}@{revision or 'main'}"
        field = ".".join([*keys[:-1], "path" if kind == "model" else "name"])
        if asked not in known and (there := look_up(kind, name, revision, field)):
            if kind == "model":
                check_weights(name, revision, there[1])
            known = known | {asked: there[0]}
        found = _with(found, keys, known.get(asked, revision))
    if save and known != before:
        Output(root, "", "").write_json(FILE, known)
    return found


def look_up(kind: str, name: str, revision: str | None, field: str) -> tuple[str, list[str]] | None:
    """The commit that a branch, a tag or nothing (the main branch) means now, and its files; offline, those in this
    machine's copy. A commit needs no look-up: None where that fails.
    """
    from huggingface_hub.errors import HTTPError

    try:
        sha, files = _in_cache(kind, name, revision) or _on_server(kind, name, revision)
    except (HTTPError, OSError, ValueError) as error:  # ValueError: not a name that a hub could have
        if COMMIT.fullmatch(revision or ""):
            return None
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        told = "no such folder here either; give a folder or a hub name, or a commit as revision: it needs no look-up"
        raise UserError(f"{field}: cannot resolve {kind} {name}@{revision or 'main'}: {said}; {told}") from None
    if not sha:
        raise UserError(f"{field}: the hub names no commit of {kind} {name}; give one as revision")
    return sha, files


def _in_cache(kind: str, name: str, revision: str | None) -> tuple[str, list[str]] | None:
    """The same of this machine's copy; None where the hub itself may be asked."""
    from huggingface_hub import is_offline_mode, snapshot_download

    if not is_offline_mode():
        return None
    folder = Path(snapshot_download(name, revision=revision, repo_type=kind, local_files_only=True))
    return folder.name, [file.name for file in folder.iterdir()]


def _on_server(kind: str, name: str, revision: str | None) -> tuple[str | None, list[str]]:
    from huggingface_hub import HfApi

    found: Any = HfApi().repo_info(name, revision=revision, repo_type=kind)
    return found.sha, [file.rfilename for file in found.siblings or []]


def _read(root: str) -> dict[str, str]:
    place = Output(root, "", "")
    fs, folder = place.open()
    there = fs.get_file_info(f"{folder.rstrip('/')}/{FILE}").type == pafs.FileType.File
    return place.read_json(FILE) if there else {}


def _hub_names(recipe: Recipe) -> list[tuple[str, tuple[str, ...], str, str | None]]:
    """(kind, keys of the revision in the recipe, name, revision) of the models, and of data sets not at a commit."""
    models: list[tuple[tuple[str, ...], ModelSettings]] = [(("model",), recipe.model)]
    models += [(("models", name), model) for name, model in recipe.models.items()]
    if recipe.synthesis and recipe.synthesis.writer.kind == "vllm":
        models.append((("synthesis", "writer", "weights"), recipe.synthesis.writer.weights))
    names: list[tuple[str, tuple[str, ...], str, str | None]] = [
        ("model", (*keys, "revision"), model.path, model.revision) for keys, model in models if model.path != "world"
    ]
    source = recipe.problems.source
    if source.kind == "hub" and not COMMIT.fullmatch(source.revision or ""):
        names.append(("dataset", ("problems", "source", "revision"), source.name, source.revision))
    return [one for one in names if _on_hub(one[2])]


def _on_hub(name: str) -> bool:
    return not (Path(name).exists() or name.startswith((".", "/", "~")) or "://" in name)


def _with(part: Any, keys: tuple[str, ...], value: str | None) -> Any:
    """A copy of nested settings with one value changed."""
    if isinstance(part, dict):
        return part | {keys[0]: _with(part[keys[0]], keys[1:], value)}
    inner = value if len(keys) == 1 else _with(getattr(part, keys[0]), keys[1:], value)
    return part.model_copy(update={keys[0]: inner})
