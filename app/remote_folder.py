"""Folders and small files of a run in object storage, for what reads and writes files on a disk: weights, checkpoints.

    URI/...               files, uploaded from the disks of the nodes that made them
    URI/complete.json     written last: a folder counts only with it, and is what it lists, by names and digests

A node's copies lie in `cache()`, in folders named by the digest of that list: nothing else can be in them, any number
of processes may ask for one at once, and a damaged copy is mended. The cache may be deleted when nothing runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import posixpath
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from pyarrow import fs as pafs

from app.errors import UserError
from app.records import digest
from app.store import Output, cache, filesystem, parallel

LISTING = "complete.json"
BLOCK, BLOCKS = 1 << 16, 16  # bytes of a block, blocks of a file that its digest covers
CHUNK = 8 << 20  # bytes of one request
FILES, REQUESTS = 4, 8  # files that travel at once, requests of each

Listing = dict[str, Any]  # "files": digests by name; more where the folder has more to say


def sampled_digest(path: Path) -> str:
    """Digest of a file's size and of BLOCKS blocks spread over it: all of a small file, and of a large one enough to
    see what is cut off, zeroed or overwritten, without reading gigabytes.
    """
    with path.open("rb") as file:
        return _sampled(file, path.stat().st_size)


def _sampled(file: BinaryIO, size: int) -> str:
    out = hashlib.blake2b(str(size).encode(), digest_size=16)
    for index in range(BLOCKS):
        file.seek(max(0, size - BLOCK) * index // (BLOCKS - 1))
        out.update(file.read(BLOCK))
    return out.hexdigest()


@dataclass(frozen=True)
class Folder:
    """A folder in object storage that is there whole or not at all. All raise OSError where the storage fails."""

    uri: str

    def _open(self) -> tuple[pafs.FileSystem, str]:
        return filesystem(self.uri)

    def put(self, local: Path) -> dict[str, str]:
        """Upload every file below `local`; returns their digests by name. They count when `commit` lists them."""
        names = sorted(file.relative_to(local).as_posix() for file in local.rglob("*") if file.is_file())
        fs, base = self._open()

        def upload(name: str) -> str:
            with (local / name).open("rb") as source, _sink(fs, posixpath.join(base, name)) as sink:
                shutil.copyfileobj(source, sink, CHUNK)
            return sampled_digest(local / name)

        return dict(zip(names, parallel(upload, names, FILES), strict=True))

    def commit(self, listing: Listing) -> None:
        """Make the folder count."""
        RemoteFile(posixpath.join(self.uri, LISTING)).write_text(json.dumps(listing))

    def listing(self) -> Listing | None:
        """What was committed; None where nothing was, or nothing that can be followed safely."""
        file = RemoteFile(posixpath.join(self.uri, LISTING))
        if not file.exists():
            return None
        try:
            body = json.loads(file.read_text())
            return body if all(_stays_within(name) for name in body["files"]) else None
        except (ValueError, KeyError, TypeError):
            return None

    def whole(self, listing: Listing) -> bool:
        """Whether every listed file is there as it was written, by its digest."""
        fs, base = self._open()

        def same(name: str) -> bool:
            try:
                with fs.open_input_file(posixpath.join(base, name)) as file:
                    return _sampled(file, file.size()) == listing["files"][name]
            except FileNotFoundError:
                return False

        return all(parallel(same, list(listing["files"])))

    def fetch(self, listing: Listing, names: Iterable[str] | None = None) -> Path:
        """This node's copy of the folder, with at least the named files (None: all)."""
        fs, base = self._open()
        copy = cache() / "folders" / digest(listing, size=16)

        def get(name: str) -> None:
            target, wanted = copy / name, listing["files"][name]
            target.parent.mkdir(parents=True, exist_ok=True)
            with _locked(f"{copy.name}-{digest(name)}"):
                if target.is_file() and not target.is_symlink() and sampled_digest(target) == wanted:
                    return
                part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
                try:
                    _download(fs, posixpath.join(base, name), part)
                    if sampled_digest(part) != wanted:
                        raise OSError(f"{self.uri}/{name}: is not what was written there")
                    os.replace(part, target)
                finally:
                    part.unlink(missing_ok=True)

        list(parallel(get, list(listing["files"] if names is None else names), FILES))
        return copy

    def copy_to(self, other: Folder) -> None:
        """Make the other folder the same as this one, through this machine."""
        listing = self.listing()
        assert listing is not None
        other.remove()
        (fs, base), (_, end) = self._open(), other._open()
        for name in listing["files"]:
            source = fs.open_input_stream(posixpath.join(base, name))
            with source, _sink(fs, posixpath.join(end, name)) as sink:
                while block := source.read(CHUNK):
                    sink.write(block)
        other.commit(listing)

    def remove(self) -> None:
        """Take the folder away; from the first moment it no longer counts."""
        RemoteFile(posixpath.join(self.uri, LISTING)).unlink(missing_ok=True)
        fs, base = self._open()
        with contextlib.suppress(FileNotFoundError):
            fs.delete_dir(base)

    def below(self) -> list[str]:
        """Names of the folders in it, sorted."""
        fs, base = self._open()
        infos = fs.get_file_info(pafs.FileSelector(base, allow_not_found=True))
        return sorted(info.base_name for info in infos if info.type == pafs.FileType.Directory)


def _stays_within(name: str) -> bool:
    """Whether a listed name is a path below its folder: it becomes one on this disk."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _sink(fs: pafs.FileSystem, path: str) -> Any:
    """A new file. Object storage has no folders to make; a disk behind file:// has."""
    if isinstance(fs, pafs.LocalFileSystem):
        fs.create_dir(posixpath.dirname(path), recursive=True)
    return fs.open_output_stream(path)


def _download(fs: pafs.FileSystem, source: str, target: Path) -> None:
    """One file, by several requests at once."""
    with fs.open_input_file(source) as file, target.open("wb") as out:
        size = file.size()

        def get(at: int) -> None:
            data = file.read_at(min(CHUNK, size - at), at)
            if os.pwrite(out.fileno(), data, at) != len(data):
                raise OSError(f"{target}: the disk took only a part of what was written")

        list(parallel(get, range(0, size, CHUNK), REQUESTS))


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    """One process of this node at a time, and one thread."""
    folder = cache() / "locks"
    folder.mkdir(exist_ok=True)
    with (folder / name).open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class RemoteFile:
    """A small file in object storage, with the verbs of pathlib.Path that are used on one."""

    uri: str

    def __str__(self) -> str:
        return self.uri

    def exists(self) -> bool:
        fs, path = filesystem(self.uri)
        return fs.get_file_info(path).type == pafs.FileType.File

    def is_file(self) -> bool:
        return self.exists()

    def read_text(self) -> str:
        fs, path = filesystem(self.uri)
        with fs.open_input_file(path) as file:
            return file.read().decode()

    def write_text(self, text: str) -> None:
        """Whole or not at all."""
        fs, path = filesystem(self.uri)
        with _sink(fs, path) as sink:
            sink.write(text.encode())

    def touch(self) -> None:
        self.write_text("")

    def unlink(self, missing_ok: bool = False) -> None:
        fs, path = filesystem(self.uri)
        if not missing_ok or self.exists():
            fs.delete_file(path)

    def with_name(self, name: str) -> RemoteFile:
        return RemoteFile(posixpath.join(posixpath.dirname(self.uri), name))


TextFile = Path | RemoteFile


def file_of(output: Output, name: str) -> TextFile:
    """A small file beside a stage's shards."""
    return RemoteFile(posixpath.join(output.uri, name)) if output.remote else output.local(name)


def write_whole(file: TextFile, text: str) -> None:
    """Write it so that a reader sees all of it or what was there before."""
    if isinstance(file, RemoteFile):
        file.write_text(text)
        return
    temporary = file.with_name(f".{file.name}")
    temporary.write_text(text)
    os.replace(temporary, file)


def publish(output: Output, name: str) -> None:
    """Move a folder of a stage from this node's disk to where the run lies, if that is object storage."""
    if not output.remote:
        return
    folder = Folder(posixpath.join(output.uri, name))
    folder.remove()
    folder.commit({"files": folder.put(output.local(name))})
    shutil.rmtree(output.local(name))


def discard(output: Output, name: str) -> None:
    """Remove a folder of a stage, wherever the run lies."""
    if output.remote:
        Folder(posixpath.join(output.uri, name)).remove()
    else:
        shutil.rmtree(output.local(name), ignore_errors=True)


def here(path: str) -> str:
    """A folder at a URI as a folder of this node; a path or a hub's name as it is."""
    if "://" not in path:
        return path
    listing = Folder(path).listing()
    if listing is None:
        raise UserError(f"{path}: no folder with its {LISTING} there; run the stage that writes it again")
    return str(Folder(path).fetch(listing))


@contextlib.contextmanager
def borrowed(path: str) -> Iterator[str]:
    """The same for one use: a copy is removed at its end."""
    folder = here(path)
    try:
        yield folder
    finally:
        if folder != path:
            shutil.rmtree(folder)
