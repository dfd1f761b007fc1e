"""The Ray a job runs on: the cluster it was submitted to, or a private one on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def ray_session() -> Iterator[None]:
    """Connect, and disconnect at the end; a private Ray is stopped and its folder removed."""
    # After a stop, a stage's thread that still runs must get an error, not start another Ray by itself.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    if not os.environ.get("RAY_ADDRESS") and "ray" not in sys.modules:
        _keep_to_this_machine()
    import ray
    import ray.data  # sets up its logging at import, so before _quieten

    _quieten()
    environment = {"VLLM_LOGGING_LEVEL": "WARNING", "RAY_TRAIN_V2_ENABLED": "1", "TOKENIZERS_PARALLELISM": "false"}
    if ray.is_initialized():
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        new = {
            name: value for name, value in environment.items() if name not in os.environ
        }  # the job's own settings win
        ray.init(runtime_env={"env_vars": new}, log_to_driver=False)
        try:
            yield
        finally:
            ray.shutdown()
        return
    folder = tempfile.mkdtemp(prefix="eightfold-")
    try:
        ray.init(
            include_dashboard=False,
            _temp_dir=folder,
            log_to_driver=False,
            runtime_env={"env_vars": environment},
            logging_level=logging.ERROR,
        )
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _keep_to_this_machine() -> None:
    """Make a private Ray listen on loopback alone and ask for a token of its own; read when ray is imported."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # Ray's name for it, on Linux too
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if not os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray leaves one in ~/.ray, for all to read


def _quieten() -> None:
    """Leave the console to the stages' own lines; Ray's logs stay in its session folder."""
    for name in ("ray", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # map_batches takes max_concurrency only through the arguments that Ray 2.64 will rename.
    warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
