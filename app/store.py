"""Stage outputs as Parquet shards under a run's folder: atomic commits, resume, manifests.

    ROOT/STAGE/KEY/part-00000.parquet     one file a shard; it exists = it is done
    ROOT/STAGE/KEY/KIND-00000.parquet     a second table of the same shard, written before its part
    ROOT/STAGE/KEY/manifest.json          written last; it exists = the stage is done

ROOT is a path or a URI pyarrow knows (s3://, gs://, file://). A shard's counts and the digest of its data travel in its
Parquet footer, put there by the worker: the files alone tell how far a stage got, what it cost, and whether they are
still what was written. Writing a shard twice is harmless: same name, same rows.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import posixpath
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from app.errors import UserError
from app.records import chunked, digest
from app.shard_stats import Receipt, Total, Written

COUNTS = b"eightfold.counts"
DIGEST = b"eightfold.digest"
READERS = 32  # threads that read footers: what takes time is storage's answer, not the processor

S = TypeVar("S")
T = TypeVar("T")


def filesystem(root: str) -> tuple[pafs.FileSystem, str]:
    """The pyarrow file system of a path or URI, and the path inside it."""
    if "://" not in root:
        return pafs.LocalFileSystem(), os.path.abspath(root)
    try:
        return pafs.FileSystem.from_uri(root)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{root}: cannot be reached: {error}") from error


def check_reachable(root: str) -> None:
    """Raise UserError where the storage of a run at a URI does not answer, or refuses."""
    fs, path = filesystem(root)
    try:
        fs.get_file_info(path)
    except OSError as error:
        raise UserError(f"{root}: cannot be read: {error}. Mend the access to it, then run the same command") from error


def cache() -> Path:
    """Where this node keeps copies of what lies in object storage. Its owner's alone: checkpoints are unpickled."""
    folder = Path(os.environ.get("EIGHTFOLD_CACHE") or Path.home() / ".cache" / "eightfold")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


class _Hashing:
    """A sink that passes on what is written and hashes it."""

    closed = False

    def __init__(self, sink: Any) -> None:
        self.sink, self.hash = sink, hashlib.blake2b(digest_size=16)

    def write(self, data: Any) -> int:
        self.hash.update(data)
        self.sink.write(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        """Whoever opened the sink closes it."""


@dataclass(frozen=True)
class Output:
    """One stage's output folder. Cheap to make and to pickle: it holds only its address."""

    root: str  # the run's path or URI
    stage: str
    key: str

    @property
    def uri(self) -> str:
        """Address of the folder: a plain path for local runs."""
        return posixpath.join(self.root, self.stage, self.key)

    @property
    def remote(self) -> bool:
        """Whether the run lies at a URI, and not on a disk."""
        return "://" in self.root

    def open(self) -> tuple[pafs.FileSystem, str]:
        """The file system and the folder's path in it."""
        return filesystem(self.uri)

    def exists(self) -> bool:
        """Whether anything was written there."""
        fs, base = self.open()
        return bool(fs.get_file_info(base).type == pafs.FileType.Directory)

    def shard_path(self, index: int, kind: str = "part") -> str:
        return posixpath.join(self.open()[1], f"{kind}-{index:05d}.parquet")

    # -- shards -------------------------------------------------------------------------------------------------------

    def done_shards(self, kind: str = "part") -> list[int]:
        """Indices of the shards that exist, ascending."""
        fs, base = self.open()
        infos = fs.get_file_info(pafs.FileSelector(base, allow_not_found=True))
        names = [i.base_name for i in infos if i.type == pafs.FileType.File]
        start, end = f"{kind}-", ".parquet"
        return sorted(int(n[len(start) : -len(end)]) for n in names if n.startswith(start) and n.endswith(end))

    def write_shard(
        self,
        index: int,
        table: pa.Table | Iterable[pa.Table],
        counts: dict[str, float] | None = None,
        kind: str = "part",
    ) -> Receipt:
        """Write one shard so that it is there whole or not at all. Other kinds first: the part marks the shard done.

        Several tables of one schema become one row group each, so that a reader can take some of them; they are taken
        one at a time. Returns what the footer says of the shard.
        """
        tables = iter([table] if isinstance(table, pa.Table) else table)
        first, rows, told = next(tables), 0, json.dumps(counts or {}).encode()
        with self.atomic(f"{kind}-{index:05d}.parquet") as sink:
            hashing = _Hashing(sink)
            with pq.ParquetWriter(hashing, first.schema, compression="zstd") as writer:
                for group in itertools.chain([first], tables):
                    writer.write_table(group)
                    rows += group.num_rows
                hashing.hash.update(told)
                found = hashing.hash.hexdigest()  # the footer, which holds it, follows
                writer.add_key_value_metadata({COUNTS: told, DIGEST: found.encode()})
        return Receipt(index, rows, counts or {}, found)

    def read_shard(self, index: int, columns: list[str] | None = None, kind: str = "part") -> pa.Table:
        fs, _ = self.open()
        table = pq.read_table(self.shard_path(index, kind), filesystem=fs, columns=columns, partitioning=None)
        return table.replace_schema_metadata(None)

    def footer(self, index: int, kind: str = "part") -> pq.FileMetaData:
        """Parquet's footer of one shard."""
        fs, _ = self.open()
        return pq.read_metadata(self.shard_path(index, kind), filesystem=fs)

    def shard_counts(self, index: int, kind: str = "part") -> dict[str, float]:
        """The counts given to `write_shard`."""
        return _counts(self.footer(index, kind))

    def counts(self) -> dict[str, float]:
        """Sum of the counts of all shards there are."""
        return self.written().counts

    def receipts(self, shards: list[int], kind: str = "part") -> Iterator[Receipt]:
        """What the footers of some shards say. Each is read once, many at a time, and none is kept."""
        fs, _ = self.open()

        def read(index: int) -> Receipt:
            footer = pq.read_metadata(self.shard_path(index, kind), filesystem=fs)
            found = (footer.metadata or {}).get(DIGEST, b"").decode()
            return Receipt(index, footer.num_rows, _counts(footer), found)

        return parallel(read, shards)

    def written(self, kind: str = "part") -> Written:
        """What all shards hold together."""
        return Total(self.receipts(self.done_shards(kind), kind)).written

    def damaged(self, kind: str = "part") -> list[str]:
        """Names of shards that no longer hold what was written into them. Reads every byte."""
        fs, _ = self.open()

        def check(index: int) -> str | None:
            with fs.open_input_file(self.shard_path(index, kind)) as file:
                data = file.read()
            return None if _intact(data) else f"{kind}-{index:05d}.parquet"

        return [name for name in parallel(check, self.done_shards(kind)) if name]

    def columns(self, kind: str = "part") -> list[str]:
        """Names of the columns of the first shard there is. Raises UserError where there is none."""
        shards = self.done_shards(kind)
        if not shards:
            raise UserError(f"{self.uri}: no shard is there")
        return list(pq.read_schema(self.shard_path(shards[0], kind), filesystem=self.open()[0]).names)

    def tables(self, columns: list[str] | None = None, kind: str = "part") -> Iterator[pa.Table]:
        """The shards one after the other: what to use where all rows may not fit in memory."""
        for index in self.done_shards(kind):
            yield self.read_shard(index, columns, kind)

    def read(self, columns: list[str] | None = None, kind: str = "part") -> pa.Table:
        """All rows. Raises UserError where the stage has written none."""
        tables = list(self.tables(columns, kind))
        if not tables:
            raise UserError(f"{self.uri}: no shards there; run stage {self.stage!r} first")
        return pa.concat_tables(tables)

    # -- whole stage --------------------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        fs, base = self.open()
        return fs.get_file_info(posixpath.join(base, "manifest.json")).type == pafs.FileType.File

    def finish(self, manifest: dict[str, Any]) -> None:
        """Write the manifest: the stage is done."""
        self.write_json("manifest.json", manifest)

    def manifest(self) -> dict[str, Any]:
        return self.read_json("manifest.json")

    def write_json(self, name: str, value: Any) -> None:
        with self.atomic(name) as sink:
            sink.write((json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())

    def read_json(self, name: str) -> Any:
        fs, base = self.open()
        with fs.open_input_file(posixpath.join(base, name)) as file:
            return json.loads(file.read())

    def local(self, *parts: str) -> Path:
        """A folder of this output on a disk, for weights and checkpoints; of a remote run a place in this node's cache,
        which app/remote_folder.py fills and empties.
        """
        base = cache() / "runs" / digest(self.root, size=8) if self.remote else Path(self.root)
        return Path(base, self.stage, self.key, *parts)

    @contextlib.contextmanager
    def atomic(self, name: str) -> Iterator[Any]:
        """A binary sink that becomes file `name` only when it was written whole."""
        fs, base = self.open()
        final, temporary = posixpath.join(base, name), posixpath.join(base, f".{name}.{uuid.uuid4().hex[:8]}")
        remote = not isinstance(fs, pafs.LocalFileSystem)
        try:
            fs.create_dir(base, recursive=True)
            if remote:  # collected first: closing an upload after a failure would publish the half that is there
                whole = pa.BufferOutputStream()
                yield whole
                with fs.open_output_stream(final) as sink:
                    sink.write(whole.getvalue())
            else:
                with fs.open_output_stream(temporary) as sink:
                    yield sink
                with open(temporary, "rb") as file:
                    os.fsync(file.fileno())  # or a machine that loses power may keep the name without the content
                os.replace(temporary, final)
        except BaseException as error:
            if not remote and os.path.exists(temporary):
                os.remove(temporary)
            if isinstance(error, OSError):
                raise UserError(
                    f"cannot write {posixpath.join(self.uri, name)}: {error}. What was written before is safe: "
                    f"{'mend the access to it' if remote else 'mend the folder or free some space'}, "
                    "then run the same command again"
                ) from error
            raise


def parallel(work: Callable[[S], T], items: Sequence[S], threads: int = READERS) -> Iterator[T]:
    """`work` of each item, in order, by threads; a bounded number of results waits."""
    with ThreadPoolExecutor(max(1, min(threads, len(items)))) as pool:
        for some in chunked(items, 32 * threads):
            yield from pool.map(work, some)


def _counts(footer: pq.FileMetaData) -> dict[str, float]:
    return json.loads((footer.metadata or {}).get(COUNTS, b"{}"))


def _intact(data: bytes) -> bool:
    """Whether a Parquet file's data and counts have the digest in its footer (its last 8 bytes: length and magic)."""
    try:
        metadata = pq.read_metadata(pa.BufferReader(data)).metadata or {}
    except (pa.ArrowInvalid, OSError):
        return False  # not even a footer that can be read
    body = memoryview(data)[: len(data) - 8 - int.from_bytes(data[-8:-4], "little")]
    found = hashlib.blake2b(body, digest_size=16)
    found.update(metadata.get(COUNTS, b""))
    return found.hexdigest().encode() == metadata.get(DIGEST)
