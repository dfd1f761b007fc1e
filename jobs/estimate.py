"""What sampling would take: `python -m jobs.estimate RECIPE [--problems 4] [--set key=value]... [--runs DIR]`.

Samples a few training problems with the recipe's own engine, as the stage would, and scales up. Nothing is kept. Needs
what the stage reads: problems and, for a trained policy, its training.
"""

from __future__ import annotations

import argparse
import asyncio
import posixpath
import sys
import tempfile
from collections import Counter

from app.cost import cost, held, money
from app.errors import UserError, nearest, one_clear_error
from app.graph import build
from app.hub import pinned
from app.pipeline import select
from app.plan import Step, plan
from app.policy import base_policy, trained_policy
from app.problems.select import Problems, write_problems
from app.progress import clock
from app.recipe import Recipe, load
from app.records import Trace
from app.sampling.estimate import Estimate, Pilot, estimate, spread
from app.store import Output
from app.verification.verifier import verdicts, verifier_of
from jobs.run import find_recipe


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m jobs.estimate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipe", help="a recipe's file, or the name of one in jobs/recipes (demo)")
    parser.add_argument("--policy", metavar="NAME", help="whose samples (default: the first that the recipe samples)")
    parser.add_argument("--problems", type=int, default=4, metavar="N", help="problems to try (default: 4)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key")
    parser.add_argument("--runs", default="runs", metavar="DIR", help="folder or URI of all runs (default: runs)")
    return parser.parse_args(argv)


@one_clear_error
def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    recipe = load(find_recipe(args.recipe), args.set)
    if recipe.sampling is None:
        raise UserError(f"recipe {recipe.name}: it has no sampling part, so there is nothing to estimate")
    if args.problems < 1:
        raise UserError(f"--problems {args.problems}: give at least 1")
    root = posixpath.join(args.runs, recipe.name)
    recipe = pinned(recipe, root, save=False)
    steps = plan(build(recipe), root)
    step = sampled(steps, args.policy)
    select(steps, step.stage.name)  # an error where an input has not run
    recipe = step.stage.recipe or recipe
    problems = Problems(_output(steps, step.stage.inputs["problems"]), "train")
    pilot = sample(recipe, steps, step, problems, args.problems)
    print(report(recipe, pilot, estimate(pilot, len(problems))))
    return 0


def sampled(steps: list[Step], policy: str | None) -> Step:
    """The sampling stage of a policy, or the first. Raises UserError where there is none."""
    found = {step.stage.subject: step for step in steps if step.stage.kind == "sampling"}
    if not found:
        raise UserError("no run of this recipe learns from samples, so there is nothing to estimate")
    if policy is not None and policy not in found:
        raise UserError(f"--policy {policy}: the recipe does not sample it{nearest(policy, found)}")
    return found[policy] if policy else next(iter(found.values()))


def sample(recipe: Recipe, steps: list[Step], step: Step, problems: Problems, count: int) -> Pilot:
    """Sample and judge `count` problems, spread over the split, through the stage's own worker."""
    from app.sampling.stage import SamplingWorker, work

    assert recipe.sampling
    model = step.stage.options["policy"]
    policy = base_policy(model) if model else trained_policy(_output(steps, step.stage.inputs["policy"]))
    chosen = [problem for n in spread(count, len(problems)) for problem in problems.slice(n, n + 1)]
    answers = {problem.id: problem for problem in chosen}
    with tempfile.TemporaryDirectory() as folder:
        source, output = Output(folder, "problems", "pilot"), Output(folder, "sampling", "pilot")
        write_problems(source, chosen, {})
        worker = SamplingWorker(*work(recipe, policy), source, output)

        async def run() -> None:
            shards = Problems(source, "train").shards(recipe.sampling.problems_per_shard)  # type: ignore[union-attr]
            await asyncio.gather(*(worker.process(index) for index in range(shards)))
            await worker.engine.close()

        asyncio.run(run())
        traces, counts = Trace.from_table(output.read()), output.counts()
    tokens = Counter({problem.id: 0 for problem in chosen})
    for trace in traces:
        tokens[trace.problem_id] += len(trace.token_ids)
    asked = [answers[trace.problem_id] for trace in traces]
    texts, endings = [t.text for t in traces], [t.finish_reason for t in traces]
    judged = asyncio.run(verdicts(verifier_of(recipe.verification), asked, texts, endings))
    seconds = counts["engine_seconds"] + counts.get("surplus_seconds", 0.0)
    return Pilot(list(tokens.values()), len(traces), sum(verdict.correct for verdict in judged), seconds)


def report(recipe: Recipe, pilot: Pilot, whole: Estimate) -> str:
    """Pilot and estimate as text."""
    place, tokens = recipe.placement.sampling, sum(pilot.tokens)
    each = f"{pilot.tokens_each:,.0f}" if pilot.tokens_each else "unknown, none was accepted"
    seconds = whole.seconds / place.actors
    lines = [
        f"pilot: {len(pilot.tokens)} problems, {pilot.traces} traces, {tokens:,} tokens",
        f"    engine time: {pilot.engine_seconds:.1f} s",
        f"    tokens a trace: {tokens / max(1, pilot.traces):,.1f}",
        f"    accepted: {pilot.accepted} of {pilot.traces}; tokens for each accepted trace: {each}",
        f"the whole stage: {whole.problems:,} problems, {whole.traces:,.0f} traces, {whole.accepted:,.0f} accepted",
        f"    tokens: {whole.tokens:,.0f} ({whole.low:,.0f} to {whole.high:,.0f}, by two standard errors)",
        f"    time: {clock(seconds)} on {place.actors} engines as busy as the pilot kept one, without their start;",
        f"    engines with up to {place.max_num_seqs} requests at once, as in the stage, are faster",
    ]
    holds = held(recipe, "sampling")
    amount = cost(recipe.prices, "sampling", seconds * holds.cpus, seconds * holds.gpus)
    if recipe.prices and amount is not None:
        lines.append(f"    cost: {money(amount, recipe.prices.currency)} at the recipe's prices")
    return "\n".join(lines)


def _output(steps: list[Step], name: str) -> Output:
    return next(step.output for step in steps if step.stage.name == name)


if __name__ == "__main__":
    sys.exit(main())
