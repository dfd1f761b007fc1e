"""What a run made, to give away: a model or a data set as a folder, or as a repository on a hub.

Each has a card and `lineage.json`, the manifests of all stages behind it. Folders of this machine are not named there.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pyarrow import fs as pafs

from app.errors import UserError, nearest
from app.lineage import behind, lineage
from app.named import DATA, INDEX, MODELS
from app.plan import siblings
from app.policy import BASE, START, trained_policy
from app.remote_folder import here
from app.store import Output, filesystem

CARD, LINEAGE = "README.md", "lineage.json"
STAGES = {MODELS: "training", DATA: "datasets"}
OWN_PATH = re.compile(r"(?<![\w.:/-])~?/[^\s`\"']+/([^\s/`\"']+)")  # absolute, as settings and cards may have them


@dataclass(frozen=True)
class Thing:
    """A model or a data set of a run, and the stage that wrote it."""

    kind: str  # models or data
    name: str
    output: Output

    @property
    def label(self) -> str:
        """What it is called in the run's folder: models/rft."""
        return f"{self.kind}/{self.name}"


def things(root: str) -> dict[str, Thing]:
    """All models and data sets of a run, by label: those its names lead to, or the newest where there are none.

    `root` is the folder or URI of a run, or what `eightfold train` wrote. Raises UserError where it is none.
    """
    fs, folder = filesystem(root)
    if fs.get_file_info(folder).type != pafs.FileType.Directory:
        raise UserError(f"{root}: no such run; give its folder, such as runs/demo")
    indexed = fs.get_file_info(posixpath.join(folder, INDEX)).type == pafs.FileType.File
    outputs = _indexed(root) if indexed else _newest(root)
    return {thing.label: thing for thing in outputs if thing.output.finished}


def _indexed(root: str) -> Iterable[Thing]:
    index = Output(root, "", "").read_json(INDEX)
    whole = root.rstrip("/") if "://" in root else os.path.realpath(root)
    for kind, stage in STAGES.items():
        for name, target in index.get(kind, {}).items():
            place = target if "://" in root else os.path.realpath(Path(root, kind, name))
            inside = re.fullmatch(rf"({stage}/[^/]+)/([^/]+)/[^/]+", posixpath.relpath(place, whole))
            if inside and not name.endswith(".parquet"):  # a data set has a name a form; a kept start lies elsewhere
                yield Thing(kind, name.removesuffix(".jsonl"), Output(root, *inside.groups()))


def _newest(root: str) -> Iterable[Thing]:
    for kind, stage in STAGES.items():
        for name in (output.key for output in siblings(Output(root, stage, "-"))):
            done = [output for output in siblings(Output(root, f"{stage}/{name}", "-")) if output.finished]
            if done:
                yield Thing(kind, name, max(done, key=lambda output: str(output.manifest().get("finished"))))


def chosen(root: str, labels: Sequence[str]) -> list[Thing]:
    """The things of these labels, or all. Raises UserError where one is not there, or none is."""
    there = things(root)
    for label in labels:
        if label not in there:
            raise UserError(f"{label}: not in {root}{nearest(label, there)}; there: {', '.join(there) or 'nothing'}")
    if not there:
        raise UserError(f"{root}: no finished model or data set; eightfold status {root} tells how far it is")
    return [there[label] for label in labels or there]


Place = Callable[[Path, Path], Any]  # puts a file of the run into a folder: a copy, or a link


def lay_out(thing: Thing, folder: Path, place: Place = shutil.copyfile) -> None:
    """Fill a folder that is not there yet, or leave none. Raises UserError where it is there, or cannot be filled."""
    if folder.exists():
        raise UserError(f"{folder}: is there already; give another folder")
    source = _model(thing) if thing.kind == MODELS else None
    if not source and not thing.output.done_shards("trl"):
        raise UserError(f"{thing.label}: has no file with TRL's columns; run its recipe again")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
        made = Path(temporary, folder.name)
        made.mkdir()
        if source:
            _weights(source, made, place)
        else:
            _data(thing.output, made)
        card = model_card((source / CARD).read_text()) if source else data_card(thing)
        manifests = json.dumps(behind(thing.output), indent=2, ensure_ascii=False)
        (made / CARD).write_text(OWN_PATH.sub(r"\1", card))
        (made / LINEAGE).write_text(OWN_PATH.sub(r"\1", manifests) + "\n")
        os.replace(made, folder)


def _weights(source: Path, folder: Path, place: Place) -> None:
    """The files of a model, but for what only its run can read."""
    for file in sorted(source.rglob("*")):
        if file.is_file() and file.name not in (CARD, BASE):
            (folder / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            place(file.resolve(), folder / file.relative_to(source))


def _model(thing: Thing) -> Path:
    """The folder of the weights on this machine. Raises UserError where they are no model by themselves."""
    fs, folder = thing.output.open()
    if fs.get_file_info(posixpath.join(folder, START)).type == pafs.FileType.File:
        raise UserError(f"{thing.label}: training kept the model that it started from; export that one")
    policy = trained_policy(thing.output)
    if policy.adapter and ("://" in policy.path or Path(policy.path).is_dir()):
        raise UserError(f"{thing.label}: an adapter of a model that is on no hub; train with lora: {{merge: true}}")
    return Path(here(policy.adapter or policy.path))


def _data(output: Output, folder: Path) -> None:
    """TRL's columns as train.parquet, token ids beside them: one format, as `datasets` wants it of a repository."""
    fs = output.open()[0]
    (folder / "token_ids").mkdir()
    for shard in output.done_shards():
        name = f"token_ids/part-{shard:05d}.parquet"
        pafs.copy_files(output.shard_path(shard), str(folder / name), source_filesystem=fs)
    pafs.copy_files(output.shard_path(0, "trl"), str(folder / "train.parquet"), source_filesystem=fs)


def model_card(text: str) -> str:
    """The card that training wrote; without a base model that is a folder, which means nothing elsewhere."""
    _, front, body = text.split("---\n", 2)
    facts = yaml.safe_load(front)
    if Path(facts["base_model"]).is_absolute() or "://" in facts["base_model"] or Path(facts["base_model"]).is_dir():
        del facts["base_model"]
    return f"---\n{yaml.safe_dump(facts, sort_keys=False)}---\n{body}"


def data_card(thing: Thing) -> str:
    """Markdown, with the front matter by which `datasets` finds both forms."""
    output, manifest = thing.output, thing.output.manifest()
    configs = [
        {"config_name": "default", "data_files": "train.parquet"},
        {"config_name": "token_ids", "data_files": "token_ids/*.parquet"},
    ]
    front = yaml.safe_dump({"configs": configs, "tags": ["math", "eightfold"]}, sort_keys=False)
    counts = ", ".join(f"{value:,.6g} {name.replace('_', ' ')}" for name, value in manifest["counts"].items())
    rows = "".join(f"| {label} | {text} |\n" for label, text in lineage(output))
    return f"""---
{front}---

# {posixpath.basename(output.root.rstrip("/"))}: data set {thing.name}

Made by eightfold, after arXiv 2406.14532. `train.parquet` has TRL's columns; `token_ids` the ids that the policy wrote.

| | |
|---|---|
| Rows | {sum(output.footer(shard).num_rows for shard in output.done_shards()):,} ({counts or "no counts"}) |
| This stage | `{output.stage}`, key `{output.key}` |
{rows}
{LINEAGE} has the manifests of all stages behind it.
"""


def publish(thing: Thing, name: str, public: bool) -> str:
    """Upload to a hub as repository OWNER/NAME, which is made where it is not there; its address.

    Raises UserError where the hub refuses or cannot be asked.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    kind = "model" if thing.kind == MODELS else "dataset"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "repository"
        lay_out(thing, folder, lambda source, target: target.symlink_to(source))
        try:
            api = HfApi()
            made = api.create_repo(name, repo_type=kind, private=not public, exist_ok=True)
            said = f"{thing.label} of {posixpath.basename(thing.output.root.rstrip('/'))}, by eightfold"
            api.upload_folder(repo_id=made.repo_id, repo_type=kind, folder_path=folder, commit_message=said)
        except (HTTPError, OSError, ValueError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"{thing.label}: cannot upload to {name}: {first}; log in with: hf auth login") from None
    return str(made)
