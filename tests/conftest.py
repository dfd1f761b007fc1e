"""Shared fixtures: one private Ray cluster a session, away from any other on the machine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings

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
        runtime_env={"env_vars": {"RAY_TRAIN_V2_ENABLED": "1"}},
    )
    yield folder
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
