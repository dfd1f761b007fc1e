"""The Ray a job runs on: the cluster it was submitted to, or a private one on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from app.entry import close_doors, hold_signals
from app.scratch import scratch


@contextlib.contextmanager
def ray_session(cpus: int | None = None) -> Iterator[None]:
    """Connect, and disconnect at the end; a private Ray is stopped and its folder removed.

    Args:
        cpus: how many a private Ray has room for; this machine's where None.
    """
    # After a stop, a stage's thread that still runs must get an error, not start another Ray by itself.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    if "ray" not in sys.modules:
        close_doors()
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
        hold_signals()
        try:
            yield
        finally:
            ray.shutdown()
        return
    with private_ray(num_cpus=cpus, runtime_env={"env_vars": environment}):
        yield


@contextlib.contextmanager
def private_ray(**options: Any) -> Iterator[None]:
    """A Ray of this job's own, for this machine alone, with `options` of ray.init; stopped at the end.

    Raises RuntimeError where Ray was imported before its doors were closed: it would listen on every interface.
    """
    if "ray" not in sys.modules:
        close_doors()
    import ray
    from ray._private import ray_constants

    if ray_constants.ENABLE_RAY_CLUSTER:
        raise RuntimeError("ray was imported before app.entry.begin() or close_doors() was called")
    with scratch() as folder:
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                _temp_dir=folder,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **options,
            )
            hold_signals()
            yield
        finally:
            ray.shutdown()


def _quieten() -> None:
    """Leave the console to the stages' own lines; Ray's logs stay in its session folder."""
    for name in ("ray", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # map_batches takes max_concurrency only through the arguments that Ray 2.64 will rename.
    warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
