"""Training sets under the column names TRL's trainers and the `datasets` library read: text only, no token ids.

    datasets.load_dataset("parquet", data_files="trl-00000.parquet")     SFT, DPO, KTO and PRM trainers
    datasets.load_dataset("json", data_files="trl.jsonl")

The prompt holds the shared steps. A trainer that encodes these texts may cut them into other tokens than the policy
wrote, and adds its end token to a rejected step that is not the solution's last; our own training reads the ids
instead.
"""

from __future__ import annotations

import json

import pyarrow as pa

from app.store import Output

COLUMNS = (  # of our records; step labels: prm.stepwise
    ["prompt", "completion", "label"],
    ["prompt", "completion"],
    ["prompt", "chosen", "rejected"],
)
BATCH = 10_000  # rows turned into Python at a time


def trl_table(part: pa.Table) -> pa.Table:
    """The text columns of a table of Example, LabelledExample or PreferencePair rows."""
    columns = next(names for names in COLUMNS if set(names) <= set(part.column_names))
    return part.select(columns)


def export(output: Output, table: pa.Table) -> None:
    """Write a table of text columns as trl-00000.parquet and trl.jsonl beside shard 0 of a data set."""
    output.write_shard(0, table, kind="trl")
    with output.atomic("trl.jsonl") as sink:
        for batch in table.to_batches(max_chunksize=BATCH):
            for row in batch.to_pylist():
                sink.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
