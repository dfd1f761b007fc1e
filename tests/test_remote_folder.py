"""Folders that count only when whole, and a node's copies of them; at file:// addresses and in a bucket."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from app import remote_folder
from app.errors import UserError
from app.remote_folder import LISTING, Folder, RemoteFile, borrowed, here, publish, sampled_digest, write_whole
from app.store import Output, cache

LARGE = 3 * remote_folder.CHUNK + 12345  # more than one request


@pytest.fixture(params=["file", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where a run lies."""
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/runs"
    monkeypatch.setenv("EIGHTFOLD_CACHE", str(tmp_path / "cache"))
    return f"file://{tmp_path}/far/runs"


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A folder on this node: small files, a large one and one further down."""
    folder = tmp_path / "local"
    (folder / "state").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "empty").touch()
    (folder / "state" / "weights").write_bytes(os.urandom(LARGE))
    return folder


def committed(uri: str, local: Path) -> Folder:
    folder = Folder(uri)
    folder.commit({"files": folder.put(local)})
    return folder


def same(a: Path, b: Path) -> bool:
    files = [{f.relative_to(root): f.read_bytes() for f in root.rglob("*") if f.is_file()} for root in (a, b)]
    return files[0] == files[1] != {}


def test_what_was_uploaded_comes_back(address: str, local: Path) -> None:
    folder = committed(f"{address}/model", local)
    listing = folder.listing()
    assert listing and folder.whole(listing)
    copy = Path(here(folder.uri))
    assert same(local, copy) and copy.is_relative_to(cache())
    before = (copy / "state" / "weights").stat().st_mtime_ns
    assert here(folder.uri) == str(copy)
    assert (copy / "state" / "weights").stat().st_mtime_ns == before  # not fetched twice
    assert Folder(address).below() == ["model"]


def test_a_folder_without_its_list_is_none(address: str, local: Path) -> None:
    folder = Folder(f"{address}/model")
    folder.put(local)
    assert folder.listing() is None
    with pytest.raises(UserError, match=rf"{folder.uri}: no folder with its complete.json there"):
        here(folder.uri)
    assert here("someone/model") == "someone/model" and here(str(local)) == str(local)


@pytest.mark.parametrize("body", ["", "{", "[]", "{}", '{"files": {"../x": "0"}}', '{"files": {"/x": "0"}}'])
def test_a_list_that_cannot_be_followed_is_none(address: str, body: str) -> None:
    RemoteFile(f"{address}/model/{LISTING}").write_text(body)
    assert Folder(f"{address}/model").listing() is None


def test_a_damaged_copy_is_mended_and_a_damaged_original_refused(address: str, local: Path) -> None:
    folder = committed(f"{address}/model", local)
    copy = Path(here(folder.uri))
    (copy / "config.json").write_text("[]")
    (copy / "empty").unlink()
    assert same(local, Path(here(folder.uri)))
    RemoteFile(f"{folder.uri}/config.json").write_text("[]")
    listing = folder.listing()
    assert listing and not folder.whole(listing)
    (copy / "config.json").unlink()
    with pytest.raises(OSError, match="config.json: is not what was written there"):
        here(folder.uri)
    assert not (copy / "config.json").exists()


def test_other_files_under_the_same_name_are_another_copy(address: str, local: Path) -> None:
    """A key says which settings made a model, not which bytes: a copy is known by its files."""
    first = here(committed(f"{address}/model", local).uri)
    (local / "config.json").write_text('{"a": 1}')
    second = here(committed(f"{address}/model", local).uri)
    assert first != second and same(local, Path(second))


def test_some_files_are_fetched_alone(address: str, local: Path) -> None:
    folder = committed(f"{address}/model", local)
    listing = folder.listing()
    assert listing
    copy = folder.fetch(listing, ["config.json"])
    assert [path.name for path in copy.rglob("*")] == ["config.json"]


def test_a_copy_in_the_bucket_and_its_removal(address: str, local: Path) -> None:
    folder, other = committed(f"{address}/candidates/one", local), Folder(f"{address}/model")
    (local / "left over").touch()
    committed(other.uri, local)
    folder.copy_to(other)
    folder.remove()
    folder.remove()  # gone already
    assert folder.listing() is None
    (local / "left over").unlink()
    assert same(local, Path(here(other.uri)))


def test_a_borrowed_copy_goes(address: str, local: Path) -> None:
    folder = committed(f"{address}/model", local)
    with borrowed(folder.uri) as copy:
        assert same(local, Path(copy))
    assert not Path(copy).exists()
    with borrowed(str(local)) as copy:
        assert copy == str(local)
    assert local.exists()


def test_a_stages_folder_moves_to_the_run(address: str, local: Path) -> None:
    output = Output(address, "training/sft", "k")
    output.local().mkdir(parents=True)
    local.rename(output.local("model"))
    publish(output, "model")
    assert not output.local("model").exists()
    assert (Path(here(f"{output.uri}/model")) / "config.json").read_text() == "{}"


def test_small_files_are_used_like_paths(address: str) -> None:
    file = RemoteFile(f"{address}/stop")
    assert not file.exists()
    file.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        file.unlink()
    file.touch()
    assert file.is_file() and file.read_text() == ""
    other = file.with_name("failure.txt")
    write_whole(other, "über")
    assert other.uri == f"{address}/failure.txt" and other.read_text() == "über"


def _fetch(uri: str, found: multiprocessing.Queue[str]) -> None:
    found.put(here(uri))


def test_processes_of_a_node_share_one_download(tmp_path: Path, local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four at once: one copy, nothing left beside it, and every file written once."""
    monkeypatch.setenv("EIGHTFOLD_CACHE", str(tmp_path / "cache"))
    folder = committed(f"file://{tmp_path}/far/model", local)
    fork = multiprocessing.get_context("fork")
    found: multiprocessing.Queue[str] = fork.Queue()
    others = [fork.Process(target=_fetch, args=(folder.uri, found)) for _ in range(4)]
    for other in others:
        other.start()
    copies = {found.get(timeout=60) for _ in others}
    for other in others:
        other.join(60)
    [copy] = copies
    assert same(local, Path(copy))
    assert [path.name for path in (cache() / "folders").iterdir()] == [Path(copy).name]


def test_a_digest_sees_what_was_cut_off_zeroed_or_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "file"
    data = os.urandom(LARGE)
    file.write_bytes(data)
    before = sampled_digest(file)
    for other in (data[:-1], data[: LARGE // 2] + bytes(LARGE - LARGE // 2), b"x" + data[1:], data[:-1] + b"x", b""):
        file.write_bytes(other)
        assert sampled_digest(file) != before
    file.write_bytes(data)
    assert sampled_digest(file) == before == json.loads(json.dumps(before))
