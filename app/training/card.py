"""The model card: where the weights of a folder came from, in words and as YAML front matter."""

from __future__ import annotations

import json
from importlib.metadata import version

from app.training.corpus import Corpus
from app.training.job import Job

NAMES = {
    "sft": "supervised fine-tuning",
    "rft": "rejection fine-tuning",
    "dpo": "direct preference optimisation",
    "step_dpo": "per-step direct preference optimisation",
}


def card(job: Job, corpus: Corpus, steps: int) -> str:
    """Markdown. Keys of the stages lead back to the data set, the sampler and the verifier through their manifests."""
    skipped = ", ".join(f"{count} {reason}" for reason, count in corpus.skipped.items()) or "none"
    unit = "pairs" if job.preference else "examples"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("ray", "torch", "deepspeed", "transformers"))
    settings = json.dumps(job.settings.model_dump(), indent=2)
    return f"""---
base_model: {json.dumps(job.policy)}
library_name: transformers
tags: [math, {job.method}, eightfold]
---

# {NAMES[job.method].capitalize()}

Made by eightfold, after arXiv 2406.14532.

| | |
|---|---|
| Start weights | `{job.policy}`, fingerprint `{job.fingerprint}` |
| Data set | stage `{job.dataset.stage}`, key `{job.dataset.key}`: {len(corpus)} {unit} (left out: {skipped}) |
| This stage | `{job.output.stage}`, key `{job.output.key}`: {steps} steps, seed {job.seed} |
| Software | {libraries} |

The manifest of each stage (`manifest.json` beside its output) names the keys and settings of the stages before it: the
sampler's weights, the verifier and the step values behind the {unit}.

```json
{settings}
```
"""
