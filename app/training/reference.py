"""Reference log-probabilities: of the start weights, once, before the first step."""

from __future__ import annotations

import hashlib
import posixpath
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist

from app.policy import folder_fingerprint
from app.records import digest
from app.remote_folder import file_of
from app.store import filesystem
from app.training import adapters
from app.training.backend import Backend
from app.training.dataset import Dataset
from app.training.forward import batch, sequence_log_probs
from app.training.job import Job
from app.training.sampler import micro_batches
from app.training.trees import Rows


def reference(engine: Backend, dataset: Dataset, job: Job, device: torch.device) -> np.ndarray:
    """Summed log-probabilities of an example's branches under the start weights, (examples, branches) float32.

    The engine must still hold the start weights. Computed on all ranks and kept beside the run's training stages under
    a digest of weights and tokens: a run that goes on later (with other weights in the engine) has the same reference,
    and so have runs with other settings over the same examples. Whether it fits is checked at the first step.
    """
    if (known := stored(dataset, job, device)) is not None:
        return known
    values = log_probs(engine, dataset, np.arange(len(dataset)), job, device)
    if dist.get_rank() == 0:
        _write(job, reference_name(job, dataset), dataset, values)
    return values


def stored(dataset: Dataset, job: Job, device: torch.device) -> np.ndarray | None:
    """The same where a run has computed them already, else None; on all ranks alike."""
    found: list[str | None] = [None]
    if dist.get_rank() == 0:
        name = reference_name(job, dataset)
        found = [name if file_of(job.references, name).is_file() else None]
    dist.broadcast_object_list(found, src=0, device=device)
    if found[0] is None:
        return None
    path = posixpath.join(job.references.uri, found[0])
    fs, inside = filesystem(path)
    table = pq.read_table(inside, filesystem=fs, partitioning=None)
    return np.stack([table[name].to_numpy() for name in table.column_names if name != "id"], axis=1)


def live(engine: Backend, rows: Rows, device: torch.device) -> torch.Tensor:
    """The same for the sequences of a batch, by the model without its adapters, (sequences,)."""
    with torch.no_grad(), adapters.without(engine.module.model):
        return sequence_log_probs(engine, rows, device)


def reference_name(job: Job, dataset: Dataset) -> str:
    """File of the log-probabilities of these examples under these weights, by what both hold.

    A stage that was deleted and trained anew has the key it had, and other weights.
    """
    columns = (dataset.prompts, *dataset.branches)
    tokens = [digest_of(column.values, column.offsets) for column in columns]
    folder = job.weights()
    weights = folder_fingerprint(folder) if Path(folder).is_dir() else job.fingerprint
    return f"{digest(weights, job.settings.precision, dataset.ids, tokens, size=8)}.parquet"


def digest_of(*arrays: np.ndarray) -> str:
    """Hex digest of the arrays' bytes."""
    out = hashlib.blake2b(digest_size=16)
    for array in arrays:
        out.update(np.ascontiguousarray(array).data)
    return out.hexdigest()


def log_probs(engine: Backend, dataset: Dataset, indices: np.ndarray, job: Job, device: torch.device) -> np.ndarray:
    """Summed log-probabilities of examples under the engine's weights, (len(indices), branches), on all ranks alike.

    Every team of ranks takes its micro-batches; the parts are summed (each example is computed by one team).
    """
    out = torch.zeros(len(indices), len(dataset.branches))
    team = engine.module.team
    engine.eval()
    places, lengths, problems = np.arange(len(indices)), dataset.lengths[indices], dataset.problems[indices]
    how = job.settings
    rounds = micro_batches(places, lengths, how.micro_batch, team.count, problems, how.micro_batch_tokens)
    for part in (chunk[team.index] for chunk in rounds):
        mine = part if len(part) else places[:1]  # an idle rank still joins the collectives of ZeRO 3
        with torch.no_grad():
            sums = sequence_log_probs(engine, batch(engine.module, dataset, indices[mine]), device)
        if len(part) and team.place == 0:
            out[mine] = sums.view(len(mine), -1).cpu()
    out = out.to(device)
    dist.all_reduce(out)
    return out.cpu().numpy()


def divergence(
    engine: Backend, unrelated: Dataset, known: np.ndarray | None, examples: np.ndarray, job: Job, device: torch.device
) -> float:
    """KTO's reference point of a step: mean log pi/ref of its prompts with unrelated completions, at least 0, in nats.

    Over the whole step, so that it depends neither on micro-batches nor on the number of workers. The engine trains on.

    Args:
        known: reference log-probabilities of all of `unrelated`; None: by the model without its adapters.
    """
    policy = log_probs(engine, unrelated, examples, job, device)
    if known is None:
        with adapters.without(engine.module.model):
            before = log_probs(engine, unrelated, examples, job, device)
    else:
        before = known[examples]
    engine.train()
    return max(0.0, float((policy - before).mean()))


def _write(job: Job, name: str, dataset: Dataset, values: np.ndarray) -> None:
    table = pa.table({"id": dataset.ids, **{f"branch_{k}": column for k, column in enumerate(values.T)}})
    with job.references.atomic(name) as sink:
        pq.write_table(table, sink)
