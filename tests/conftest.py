"""Shared fixtures: one private Ray cluster a session, away from any other on the machine."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.s3 import make_bucket, s3_server

settings.register_profile("eightfold", deadline=None)  # a test must not fail because the machine is busy
settings.load_profile("eightfold")


@pytest.fixture(scope="session")
def ray_local() -> Iterator[str]:
    """A two-CPU Ray in a temporary folder of its own, shut down at the end. Yields the folder."""
    import ray

    folder = tempfile.mkdtemp(prefix="ef-ray-", dir="/tmp")  # short: Ray's sockets have a length limit
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        _temp_dir=folder,
        log_to_driver=False,
        object_store_memory=512 * 2**20,
        runtime_env={"env_vars": {"RAY_TRAIN_V2_ENABLED": "1", "EIGHTFOLD_CACHE": f"{folder}/cache"}},
    )
    yield folder
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def one_rank() -> Iterator[None]:
    """A gloo process group of this process alone, for the loop without Ray."""
    import torch.distributed as dist

    own = {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def s3_environment() -> Iterator[dict[str, str]]:
    """The environment of processes that use this session's S3 server."""
    pytest.importorskip("moto", reason="moto[server] plays S3")
    with s3_server() as environment:
        yield environment


@pytest.fixture
def bucket(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Address of an empty bucket; this node's copies are in `tmp_path/cache`."""
    for name, value in (s3_environment | {"EIGHTFOLD_CACHE": str(tmp_path / "cache")}).items():
        monkeypatch.setenv(name, value)
    return make_bucket(f"bucket-{uuid.uuid4().hex[:8]}", s3_environment)
