"""The model card: where the weights of a folder came from, in words and as YAML front matter."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

from app.store import Output
from app.training.dataset import Dataset
from app.training.job import Job

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


def card(job: Job, dataset: Dataset, steps: int) -> str:
    """Markdown. Keys of the stages lead back to the data set, the sampler and the verifier through their manifests."""
    skipped = ", ".join(f"{count} {reason}" for reason, count in dataset.skipped.items()) or "none"
    unit = "pairs" if job.preference else "examples"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("ray", "torch", "deepspeed", "transformers"))
    settings = json.dumps(job.settings.model_dump(), indent=2)
    lora = job.settings.lora
    lineage_rows = "".join(f"| {label} | {text} |\n" for label, text in job.lineage)
    return f"""---
base_model: {json.dumps(job.policy)}
library_name: {"peft" if lora and not lora.merge else "transformers"}
tags: [math, {job.method}, eightfold]
---

# {job.output.root.rstrip("/").rpartition("/")[2]}: {job.name}, trained by {job.title or job.method}

Made by eightfold, after arXiv 2406.14532.

| | |
|---|---|
| Start weights | `{job.policy}`, fingerprint `{job.fingerprint}` |
| Data set | stage `{job.dataset.stage}`, key `{job.dataset.key}`: {len(dataset)} {unit} (left out: {skipped}) |
{lineage_rows}| This stage | `{job.output.stage}`, key `{job.output.key}`: {steps} steps, seed {job.seed} |
| Software | {libraries} |

The manifest of each stage (`manifest.json` beside its output) names the keys and settings of the stages before it.

```json
{settings}
```
"""
