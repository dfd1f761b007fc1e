"""Stage verification: a Verdict for each trace, shard by shard, in verifier actors."""

from __future__ import annotations

from dataclasses import replace

from app.problems.select import problems_of
from app.records import Problem, Trace, Verdict
from app.shardmap import Pool, map_shards
from app.stage import StageContext
from app.store import Output
from app.verification.judge import judge_batch


class VerificationWorker:
    """Judges the traces of one sampling shard at a time."""

    def __init__(self, problems: Output, traces: Output, output: Output) -> None:
        self.problems = {p.id: p for p in problems_of(problems, "train")}
        self.traces, self.output = traces, output

    async def process(self, index: int) -> dict[str, float]:
        """Verdicts of shard `index`, in the order of its traces."""
        traces = Trace.from_table(self.traces.read_shard(index))
        verdicts = judge_traces(traces, self.problems)
        counts = {"verdicts": float(len(verdicts)), "verifier seconds": sum(v.seconds for v in verdicts)}
        for verdict in verdicts:
            counts[verdict.outcome] = counts.get(verdict.outcome, 0) + 1
        self.output.write_shard(index, Verdict.table(verdicts), counts)
        return counts


def judge_traces(traces: list[Trace], problems: dict[str, Problem]) -> list[Verdict]:
    """One Verdict a trace, same order, against its problem's reference answer."""
    asked = [problems[trace.problem_id] for trace in traces]
    verdicts = judge_batch([p.answer for p in asked], [t.text for t in traces], [p.statement for p in asked])
    return [replace(verdict, trace_id=trace.id) for verdict, trace in zip(verdicts, traces, strict=True)]


def run(context: StageContext) -> None:
    """Judge every sampling shard that has no verdicts yet."""
    traces = context.inputs["sampling"]
    problems = context.inputs[context.stage.options["problems"]]
    shards = traces.done_shards()
    pending = context.pending(len(shards))
    context.progress.begin(len(shards), len(shards) - len(pending))
    place = context.recipe.placement.verification
    map_shards(
        VerificationWorker,
        (problems, traces, context.output),
        pending,
        Pool(place.actors, place.cpus),
        context.progress,
    )
