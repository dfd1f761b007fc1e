"""Weights by name: the recipe's base model or what a training stage wrote."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from app.errors import UserError
from app.settings import ModelSettings
from app.store import Output, filesystem

WORLD_MODEL = Path(__file__).parent / "problems" / "world_model"


@dataclass(frozen=True)
class Policy:
    """A folder or hub name that transformers and vLLM load, and a fingerprint of the weights for ids."""

    path: str
    fingerprint: str


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
    """The weights a training stage exported."""
    return Policy(str(output.local("model")), output.key)


def check_folder(path: str) -> None:
    """Raise UserError where a model folder lacks its configuration, weights or tokenizer."""
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise UserError(f"{path}: not a model folder: config.json is missing")
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"{path}: no *.safetensors weights; convert the model with save_pretrained() first")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise UserError(f"{path}: no tokenizer files (tokenizer.json or tokenizer.model); save the tokenizer there too")


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
