"""A job for a cluster of tests: says on which node each shard was processed.

python nodes_run.py FOLDER SHARDS LABELS_AS_JSON
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from app.progress import Progress
from app.shard_stats import Receipt
from app.shardmap import Pool, map_shards


class Whereabouts:
    """Writes the id of its node into one file a shard."""

    def __init__(self, folder: str) -> None:
        import ray

        self.folder, self.node = Path(folder), ray.get_runtime_context().get_node_id()

    async def process(self, index: int) -> Receipt:
        (self.folder / f"shard-{index}").write_text(self.node)
        return Receipt(index, 0, {"shards seen": 1.0}, "")


if __name__ == "__main__":
    import ray

    ray.init(log_to_driver=False)
    pool = Pool(2, 1, labels=json.loads(sys.argv[3]), asked_by="placement.sampling")
    map_shards(Whereabouts, (sys.argv[1],), range(int(sys.argv[2])), pool, Progress("sampling"))
