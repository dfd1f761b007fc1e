"""Weights by name: the recipe's base model or what a training stage wrote."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from app.errors import UserError
from app.remote_folder import RemoteFile, TextFile, file_of, here
from app.settings import ModelSettings
from app.store import Output, filesystem

ADAPTER = "adapter_config.json"  # what peft writes beside the adapter's weights
START = "start.json"  # what training writes where the best weights are those it started from
BASE = "base.json"  # what training writes there: `base_facts` of the model it adapts
SAFE = {"model.safetensors", "model.safetensors.index.json"}  # one of them is what transformers loads
PICKLE = re.compile(r"pytorch_model.*\.bin")
WORLD_MODEL = Path(__file__).parent / "problems" / "world_model"


@dataclass(frozen=True)
class Policy:
    """A folder, the URI of one, or a hub name, and a fingerprint of the weights for ids.

    With an adapter, `path` is the model that the adapter was trained on, tokenizer included.
    """

    path: str
    fingerprint: str
    adapter: str | None = None  # folder of a LoRA adapter as peft writes it, or its URI

    def here(self) -> Policy:
        """The same as transformers and vLLM load it: what lies at a URI, in this node's copy."""
        return replace(self, path=here(self.path), adapter=self.adapter and here(self.adapter))


def base_policy(model: ModelSettings) -> Policy:
    """The base model of a recipe. Local folders are checked here, before any engine starts."""
    path = str(WORLD_MODEL) if model.path == "world" else model.path
    if not Path(path).is_dir():
        if path.startswith((".", "/", "~")):
            raise UserError(f"model.path: no such folder: {path}")
        return Policy(path, f"{path}@{model.revision or 'main'}")
    check_folder(path)
    return Policy(path, folder_fingerprint(path))


def trained_policy(output: Output) -> Policy:
    """The weights a training stage exported: a whole model, or a LoRA adapter beside the name of its base.

    Where training kept its start, that is the policy, with the fingerprint it has.
    """
    kept = file_of(output, START)
    if kept.is_file():
        facts = json.loads(kept.read_text())
        return trained_policy(Output(output.root, **facts)) if "stage" in facts else Policy(**facts)
    if output.remote:
        return _stored_policy(output)
    return policy_at(output.local("model"), output.key, output.root)


def policy_at(folder: Path, fingerprint: str, root: str) -> Policy:
    """The same for weights that a stage of the run at `root` wrote, which are in `folder` on this node."""
    if not (folder / ADAPTER).is_file():
        return Policy(str(folder), fingerprint)
    return Policy(adapter_base(folder, root), fingerprint, str(folder))


def _stored_policy(output: Output) -> Policy:
    """The same in object storage; an adapter names its base there, by URI or relative to itself, or on a hub."""
    model = posixpath.join(output.uri, "model")
    config = RemoteFile(posixpath.join(model, ADAPTER))
    if not config.exists():
        return Policy(model, output.key)
    base = _stage_base(config.with_name(BASE), output.root) or _base_name(config)
    if base.startswith("."):
        scheme, _, path = model.partition("://")
        base = f"{scheme}://{posixpath.normpath(posixpath.join(path, base))}"
    return Policy(base, output.key, model)


def base_facts(policy: Policy, output: Output | None) -> dict[str, str]:
    """How an adapter names the weights it adapts: the stage that wrote them, or the fingerprint of a folder; a hub
    name needs nothing more.
    """
    if output is not None:
        return {"stage": output.stage, "key": output.key}
    return {"fingerprint": policy.fingerprint} if Path(policy.path).is_dir() else {}


def adapter_base(folder: Path, root: str) -> str:
    """The model that a LoRA adapter belongs to: a folder, absolute or relative to the adapter, or a hub name.

    Where the adapter's folder holds base.json, its "stage" and "key" name a stage of the run folder `root`, wherever
    that is now; its "fingerprint" must be the base folder's own. Raises UserError.
    """
    if path := _stage_base(folder / BASE, root):
        if "://" not in path:
            check_folder(path)
        return path
    name = _base_name(folder / ADAPTER)
    near = folder / name
    if not near.is_dir():
        if name.startswith((".", "/", "~")):
            raise UserError(f"{folder / ADAPTER}: base_model_name_or_path: no such folder: {name}")
        return name
    check_folder(str(near))
    expected = _facts(folder / BASE).get("fingerprint")
    if expected and (found := folder_fingerprint(str(near))) != expected:
        raise UserError(f"{near}: not the weights that {folder} was trained on ({found}, not {expected})")
    return str(near)


def _facts(file: TextFile) -> dict[str, str]:
    return json.loads(file.read_text()) if file.is_file() else {}


def _stage_base(file: TextFile, root: str) -> str | None:
    """The weights of the stage that an adapter's base.json names, wherever the run is now; None where it names none."""
    facts = _facts(file)
    return trained_policy(Output(root, facts["stage"], facts["key"])).path if "stage" in facts else None


def _base_name(config: TextFile) -> str:
    name = json.loads(config.read_text()).get("base_model_name_or_path")
    if not name:
        raise UserError(f"{config}: base_model_name_or_path is missing; write there what the adapter adapts")
    return name


def check_folder(path: str) -> None:
    """Raise UserError where a model folder lacks its configuration, weights or tokenizer."""
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise UserError(f"{path}: not a model folder: config.json is missing")
    check_weights(path, None, (file.name for file in folder.iterdir()))
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"{path}: no *.safetensors weights; convert the model with save_pretrained() first")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise UserError(f"{path}: no tokenizer files (tokenizer.json or tokenizer.model); save the tokenizer there too")


def check_weights(name: str, revision: str | None, files: Iterable[str]) -> None:
    """Raise UserError where the only weights among a model's files are pickles, which may run code when read: neither
    training nor an engine reads such.
    """
    there = set(files)
    pickles = sorted(file for file in there if PICKLE.fullmatch(file))
    if not pickles or there & SAFE:
        return
    given = f"{name!r}, revision={revision!r}" if revision else repr(name)
    raise UserError(
        f"{name}: its weights are pickles ({pickles[0]}), which may run code when they are read, and not safetensors. "
        "Where you trust them, convert them once and give the new folder (here ./converted) as the model's path:\n"
        'python -c "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; '
        f"M.from_pretrained({given}, use_safetensors=False, dtype='auto').save_pretrained('converted'); "
        f"T.from_pretrained({given}).save_pretrained('converted')\""
    )


def folder_fingerprint(path: str) -> str:
    """Digest of a model folder's files, so that moving it changes no key and editing it does."""
    out = hashlib.blake2b(digest_size=8)
    for file in sorted(Path(path).iterdir()):
        if file.suffix in (".safetensors", ".json", ".model", ".jinja"):
            out.update(file.name.encode() + b"\0")
            with file.open("rb") as handle:
                while block := handle.read(1 << 20):
                    out.update(block)
    return out.hexdigest()


def file_digest(path: str) -> str:
    """Digest of one file's bytes."""
    fs, name = filesystem(path)
    out = hashlib.blake2b(digest_size=16)
    with fs.open_input_stream(name) as handle:
        while block := handle.read(1 << 20):
            out.update(block)
    return out.hexdigest()
