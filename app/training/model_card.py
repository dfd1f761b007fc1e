"""The model card: where the weights of a folder came from, in words and as YAML front matter."""

from __future__ import annotations

import json
from importlib.metadata import version

from app.training.dataset import Dataset
from app.training.job import Job


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
