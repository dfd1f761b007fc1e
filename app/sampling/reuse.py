"""Traces of an earlier run that a larger one takes over: more samples a problem, or more tokens for cut ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from app.plan import siblings
from app.records import Trace, seed_from
from app.sampling.engine import Completion, Engine, PromptTooLong, Request
from app.sampling.settings import SamplingSettings
from app.stage import StageContext
from app.store import Output

GROWING = {"samples", "max_tokens", "continued_at"}  # settings in which an earlier run may differ
Pair = tuple[Trace, Completion]


@dataclass(frozen=True)
class Earlier:
    """A finished output of the same run and how far its traces went: its settings' `cuts`."""

    output: Output
    samples: int
    cuts: tuple[int, ...]

    def traces(self, index: int) -> dict[tuple[str, int], Trace]:
        """Its traces of a shard, by problem and sample number."""
        return {(t.problem_id, t.sample): t for t in Trace.from_table(self.output.read_shard(index))}


def finished_siblings(context: StageContext) -> list[Earlier]:
    """Other finished outputs of this run that differ in nothing but samples and tokens.

    None with quotas: with more tokens or samples other traces may count, and so others be drawn.
    """
    wanted = context.stage.settings
    if wanted.get("stopping"):
        return []
    inputs = {name: output.key for name, output in context.inputs.items()}
    found = []
    for other in siblings(context.output):
        if other.key == context.output.key or not other.finished:
            continue
        manifest = other.manifest()
        theirs = manifest["settings"]
        differing = {key for key in wanted.keys() | theirs.keys() if wanted.get(key) != theirs.get(key)}
        if differing <= GROWING and manifest["inputs"] == inputs and manifest["revision"] == context.stage.revision:
            cuts = (*theirs.get("continued_at", ()), theirs["max_tokens"])
            found.append(Earlier(other, theirs["samples"], cuts))
    return found


def reusable(found: Sequence[Earlier], settings: SamplingSettings) -> Earlier | None:
    """The one that saves most: with the most samples of use here, then with the fewest cuts left. None where none fits.

    Its traces must be what this stage would draw itself: cut where this one cuts, as far as they go.
    """
    fitting = [one for one in found if one.cuts == settings.cuts[: len(one.cuts)]]
    return max(fitting, key=lambda one: (min(one.samples, settings.samples), len(one.cuts)), default=None)


def shorter_cuts(found: Sequence[Earlier], settings: SamplingSettings) -> list[int] | None:
    """What `continued_at` could be to take over traces that are shorter than those asked for; None where none are."""
    shorter = [one for one in found if one.cuts[-1] < settings.max_tokens]
    return list(max(shorter, key=lambda one: one.cuts[-1]).cuts) if shorter else None


async def continue_cut(
    engine: Engine, trace: Trace, settings: SamplingSettings, most: int, seed: int, decode: Callable[[list[int]], str]
) -> Pair:
    """A trace as it was, or, where it was cut and the context leaves room, with what the policy writes on from there.

    The id stays; the continuation is drawn with a seed of its own. The Completion holds what was written now.

    Args:
        most: tokens the trace may have in all.
    """
    prompt = (*trace.prompt_token_ids, *trace.token_ids)
    left = most - len(trace.token_ids)
    as_it_was = trace, Completion((), "", trace.finish_reason)
    if trace.finish_reason != "length" or left < 1:
        return as_it_was
    again = seed_from(seed, trace.id, "continued", len(trace.token_ids))
    try:
        cut = (settings.top_p, settings.top_k, settings.min_p)
        done = await engine.generate(Request(trace.id, prompt, again, left, settings.temperature, *cut))
    except PromptTooLong:
        return as_it_was
    tokens = [*trace.token_ids, *done.token_ids]
    return replace(trace, token_ids=tokens, text=decode(tokens), finish_reason=done.finish_reason), done


async def continue_through(
    engine: Engine,
    pair: Pair,
    cuts: Sequence[int],
    settings: SamplingSettings,
    seed: int,
    decode: Callable[[list[int]], str],
) -> Pair:
    """The trace continued to each of `cuts` in turn; the Completion counts the seconds of all."""
    trace, done = pair
    seconds = done.seconds
    for most in cuts:
        trace, done = await continue_cut(engine, trace, settings, most, seed, decode)
        seconds += done.seconds
    return trace, replace(done, seconds=seconds)
