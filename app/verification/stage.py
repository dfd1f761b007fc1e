"""Stage verification: a Verdict for each trace, shard by shard, in verifier actors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from app.problems.select import Problems
from app.records import Verdict
from app.shard_stats import Receipt
from app.shardmap import Pool, run_shards
from app.stage import StageContext
from app.store import Output
from app.verification.gate import check_references
from app.verification.settings import VerificationSettings
from app.verification.verifier import verdicts as verdicts_of
from app.verification.verifier import verifier_of


class VerificationWorker:
    """Judges the traces of one sampling shard at a time."""

    def __init__(
        self, problems: Output, traces: Output, output: Output, settings: VerificationSettings | None = None
    ) -> None:
        self.verifier = verifier_of(settings or VerificationSettings())
        self.problems = Problems(problems, "train")
        self.traces, self.output = traces, output

    async def process(self, index: int) -> Receipt:
        """Verdicts of shard `index`, in the order of its traces."""
        names = ["id", "problem_id", "text", "finish_reason"]  # the token ids are most of a shard
        ids, asked, texts, endings = (column.to_pylist() for column in self.traces.read_shard(index, names).columns)
        problems = self.problems.named(asked)
        found = await verdicts_of(self.verifier, [problems[name] for name in asked], texts, endings)
        verdicts = [replace(verdict, trace_id=name) for verdict, name in zip(found, ids, strict=True)]
        counts = {"verdicts": float(len(verdicts)), "verifier seconds": sum(v.seconds for v in verdicts)}
        for verdict in verdicts:
            counts[verdict.outcome] = counts.get(verdict.outcome, 0) + 1
        counts |= reason_counts(zip(asked, verdicts, strict=True))
        return self.output.write_shard(index, Verdict.table(verdicts), counts)


def reason_counts(verdicts: Iterable[tuple[str, Verdict]]) -> dict[str, float]:
    """Of (problem id, verdict) rows: `unfinished` traces, and `bad_references`, problems that cannot be judged."""
    unfinished, bad = 0.0, set()
    for problem, verdict in verdicts:
        unfinished += verdict.reason == "unfinished"
        if verdict.reason == "bad-reference":
            bad.add(problem)
    return {"unfinished": unfinished, "bad_references": float(len(bad))}


@dataclass(frozen=True)
class Inputs:
    """What the stage reads."""

    problems: Output
    sampling: Output


def run(context: StageContext) -> None:
    """Judge every sampling shard that has no verdicts yet."""
    given = context.given(Inputs)
    check_references(given.problems, "train", context.recipe.verification, context.stage.name)
    place = context.recipe.placement.verification
    run_shards(
        context,
        VerificationWorker,
        (given.problems, given.sampling, context.output, context.recipe.verification),
        len(given.sampling.done_shards()),
        Pool.of(place, "placement.verification"),
    )
