"""Several ranks without Ray: processes with a gloo group, which run a function of a test module on each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def spawn(count: int, function: Callable[..., None], store: Path, *arguments: Any) -> None:
    """Call function(*arguments) on `count` ranks that meet over the file `store`; raises what one of them raised."""
    import torch.multiprocessing as multiprocessing

    multiprocessing.spawn(_begin, (count, str(store), function, arguments), nprocs=count)


def _begin(rank: int, count: int, store: str, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ |= {"LOCAL_RANK": str(rank), "RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}  # not used, but DeepSpeed wants them
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=count)
    function(*arguments)
    dist.destroy_process_group()
