"""Stages datasets/RUN: judged traces to one shard of training rows, and its TRL export."""

from __future__ import annotations

import pyarrow as pa

from app.datasets.export import export, trl_table
from app.datasets.prm import StepLabel, stepwise
from app.datasets.sources import Sources
from app.errors import UserError
from app.records import totals
from app.stage import StageContext


def run(context: StageContext) -> None:
    """Build the set by the stage's method; one shard, written last. The option `may_be_empty` lets it have no row."""
    method, settings = context.stage.options["method"], context.stage.options["data"]
    if not context.pending(1):
        return
    pieces = []
    for table, counts in method.build()(Sources(context), settings):
        pieces.append((table, counts))
        context.progress.advance(1, counts)
    part = pa.concat_tables([table for table, _ in pieces])
    if not part.num_rows and not context.stage.options.get("may_be_empty"):
        raise UserError(f"{context.stage.name}: not one row could be made. {method.empty}")
    export(context.output, stepwise(StepLabel.from_table(part)) if part.schema == StepLabel.schema else trl_table(part))
    context.output.write_shard(0, part, totals(counts for _, counts in pieces))
