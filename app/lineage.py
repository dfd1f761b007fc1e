"""Where a data set or a model came from, as the manifests of a run tell: in words for its card, and whole."""

from __future__ import annotations

import json
from typing import Any

from app.store import Output

ROLES = {"problems": "1", "sampling": "2", "verification": "3", "credit": "4"}  # of a data set, and their order
LABELS = {  # stages behind a data set, as a card calls them
    "problems": "Problems",
    "synthesis": "Synthetic problems",
    "sampling": "Traces",
    "verification": "Verdicts",
    "credit": "Step values",
}


def lineage(dataset: Output) -> tuple[tuple[str, str], ...]:
    """(label, text) for the data set and each stage it was made from, as their manifests tell: which weights sampled,
    which verifier judged, with which settings.
    """
    manifest = dataset.manifest()
    rows = [("Data set's settings", _short(manifest.get("settings", {})))]
    for role, key in sorted(
        manifest.get("inputs", {}).items(), key=lambda pair: (ROLES.get(_plain(pair[0]), ""), pair[0])
    ):
        if _plain(role) not in ROLES:
            continue
        folder = manifest["folders"][role]
        before = Output(dataset.root, folder, key).manifest()
        text = f"stage `{folder}`, key `{key}`: {_short(before['settings'])}"
        if _plain(role) in ("sampling", "credit"):
            policy = before["inputs"].get("policy")
            asked = f"`{before['folders']['policy']}`, key `{policy}`" if policy else "a model of the recipe"
            text += f"; policy: {asked}"
        rows.append((LABELS[folder.partition("/")[0]], text))
    return tuple(rows)


def _plain(role: str) -> str:
    """A role without the number that tells several of it apart."""
    return role.partition(".")[0]


def _short(settings: dict[str, Any]) -> str:
    """Settings as one line of a table."""
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in settings.items()).replace("|", "\\|") or "none"


def behind(output: Output) -> dict[str, dict[str, Any]]:
    """The manifests of a stage and of all that it was made from, by `stage/key`, itself first."""
    found: dict[str, dict[str, Any]] = {}
    look = [output]
    while look:
        one = look.pop(0)
        name = f"{one.stage}/{one.key}"
        if name not in found and one.finished:
            found[name] = one.manifest()
            folders = found[name].get("folders", {})
            look += [Output(one.root, folders[role], key) for role, key in found[name].get("inputs", {}).items()]
    return found
