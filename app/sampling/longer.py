"""`max_tokens` raised: traces that ended by themselves are kept, and only those that were cut are continued."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from app.plan import siblings
from app.records import Trace, seed_from
from app.sampling.engine import Completion, Engine, PromptTooLong, Request
from app.sampling.settings import SamplingSettings
from app.stage import StageContext
from app.store import Output


def shorter_run(context: StageContext) -> Output | None:
    """The finished output of this run that differs in a smaller `max_tokens` only, the longest of them; else None.

    Quotas are left out: with more tokens other traces may count, and so other samples be drawn.
    """
    wanted = context.stage.settings
    if wanted.get("until"):
        return None
    inputs = {name: output.key for name, output in context.inputs.items()}
    found: dict[int, Output] = {}
    for other in siblings(context.output):
        if other.key == context.output.key or not other.finished:
            continue
        manifest = other.manifest()
        tokens = manifest["settings"].get("max_tokens", 0)
        same = manifest["settings"] | {"max_tokens": wanted["max_tokens"]} == wanted
        same = same and manifest["inputs"] == inputs and manifest["revision"] == context.stage.revision
        if same and tokens < wanted["max_tokens"]:
            found[tokens] = other
    return found[max(found)] if found else None


async def continue_cut(
    engine: Engine, trace: Trace, settings: SamplingSettings, seed: int, decode: Callable[[list[int]], str]
) -> tuple[Trace, Completion]:
    """A trace as it was, or, where it was cut and the context leaves room, with what the policy writes on from there.

    The id stays; the continuation is drawn with a seed of its own. The Completion holds what was written now.
    """
    prompt = (*trace.prompt_token_ids, *trace.token_ids)
    left = settings.max_tokens - len(trace.token_ids)
    as_it_was = trace, Completion((), "", trace.finish_reason)
    if trace.finish_reason != "length" or left < 1:
        return as_it_was
    again = seed_from(seed, trace.id, "continued", len(trace.token_ids))
    try:
        done = await engine.generate(Request(trace.id, prompt, again, left, settings.temperature, settings.top_p))
    except PromptTooLong:
        return as_it_was
    tokens = [*trace.token_ids, *done.token_ids]
    return replace(trace, token_ids=tokens, text=decode(tokens), finish_reason=done.finish_reason), done
