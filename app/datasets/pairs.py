"""DPO and per-step DPO pairs: which trace is preferred to which, after which shared tokens. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log

from app.datasets.selection import with_end
from app.datasets.settings import StepDpoSettings
from app.judged import Judged, distinct
from app.records import PreferencePair, StepValue, Trace, digest
from app.tokens import TokenText, common


@dataclass(frozen=True)
class Texts:
    """What turns tokens into rows for people: decoding, the end token, the prompt of the problem at hand."""

    tokens: TokenText
    end_id: int
    prompt: str

    def split(self, head: list[int], tail: list[int]) -> tuple[str, str]:
        """Two token ranges as they read one after the other (a decoder may treat a first token differently)."""
        text, ends = self.tokens.spans([*head, *tail])
        place = ends[len(head) - 1] if head else 0
        return text[:place], text[place:]


def dpo_pairs(samples: Sequence[Judged], per_problem: int, seed: int, texts: Texts) -> list[PreferencePair]:
    """Arbitrary pairs of a correct and a wrong trace of one problem: standard DPO.

    Both came to their own end. A trace that was cut off is never rejected: that would teach length, not reasoning.
    Traces with the same tokens count once. Who meets whom is drawn by `seed` and the traces' ids; no trace is used
    twice while another of its kind is unused.
    """
    right, wrong = (distinct(samples, correct, lambda trace: digest(seed, trace.id)) for correct in (True, False))
    if not right or not wrong:
        return []
    count = min(per_problem, max(len(right), len(wrong)))
    return [whole_pair(right[i % len(right)], wrong[i % len(wrong)], texts) for i in range(count)]


def whole_pair(chosen: Trace, rejected: Trace, texts: Texts) -> PreferencePair:
    """Two whole traces after the bare problem."""
    prompt_ids = chosen.prompt_token_ids
    return _pair(
        chosen, rejected, prompt_ids, 0, with_end(chosen, texts.end_id), with_end(rejected, texts.end_id), texts
    )


@dataclass(frozen=True, slots=True)
class Pit:
    """A wrong trace and what credit says of it: tokens [start, end) are the first pit's step."""

    trace: Trace
    start: int
    end: int
    before: StepValue
    after: StepValue


def pits(
    traces: Sequence[Trace], values: Sequence[StepValue], min_q_before: float, min_confidence: float = 0.0
) -> list[Pit]:
    """The pits at which there was value to lose: Q before at least `min_q_before`, Q after, where known, below it.

    Only those credit was at least `min_confidence` sure of. By trace id.
    """
    rows = {(row.trace_id, row.step): row for row in values}
    named = {trace.id: trace for trace in traces}
    found = []
    for (name, step), after in sorted(rows.items()):
        before = rows.get((name, step - 1))
        if not after.first_pit or name not in named or before is None or before.q is None:
            continue
        sure = min_confidence == 0 or (after.confidence or 0.0) >= min_confidence
        if sure and before.q >= min_q_before and (after.q is None or after.q < before.q):
            found.append(Pit(named[name], after.start, after.end, before, after))
    return found


def step_pairs(
    found: Sequence[Pit],
    samples: Sequence[Judged],
    rollouts: Sequence[Judged],
    settings: StepDpoSettings,
    seed: int,
    texts: Texts,
) -> list[PreferencePair]:
    """Per-step DPO pairs of one problem.

    `shared-prefix`: after the steps before the pit, a correct continuation is preferred to the wrong trace's own
    (theorem 6.1 of arXiv 2406.14532). Continuations are rollouts from that prefix, and other samples that begin with
    its tokens. The branch moves right to the first token at which the two differ; where that is behind the pit, the
    pair says nothing about it and is left out.
    `full-solution`: after the bare problem, a correct trace is preferred to the wrong one cut after its pit.

    Args:
        found: from `pits`, all of one problem.
        samples: the problem's plain samples; they came from the same policy.
        rollouts: those of the credit stage.

    Returns:
        At most settings.per_pit a pit and settings.per_problem in all, the sharpest falls first. No two are the same.
    """
    out: dict[tuple[tuple[int, ...], ...], PreferencePair] = {}
    for pit in sorted(found, key=lambda p: (_fall(p), digest(seed, p.trace.id))):
        made = 0
        for chosen, skip in _continuations(pit, samples, rollouts, settings, seed):
            pair = _step_pair(pit, chosen, skip, settings, texts)
            if pair is None:
                continue
            key = (tuple(pair.prompt_token_ids), tuple(pair.chosen_token_ids), tuple(pair.rejected_token_ids))
            if key in out:
                continue
            if len(out) >= settings.per_problem or made >= settings.per_pit:
                break
            out[key] = pair
            made += 1
    return list(out.values())


def _fall(pit: Pit) -> float:
    """Advantage of the pit's step: negative, sharpest first."""
    return (pit.after.q or 0.0) - (pit.before.q or 0.0)


def _continuations(
    pit: Pit, samples: Sequence[Judged], rollouts: Sequence[Judged], settings: StepDpoSettings, seed: int
) -> list[tuple[Trace, int]]:
    """Correct traces to prefer, best first, each with the number of its tokens that repeat the prefix."""
    shared = pit.start if settings.reading == "shared-prefix" else 0
    found = drawn(pit.trace, shared, sorted([*rollouts, *samples], key=lambda pair: digest(seed, pair[0].id)))
    right = {tail: source for tail, source, correct in reversed(found) if correct}  # the first drawn stands for equals
    order = list(dict.fromkeys(tail for tail, _, correct in found if correct))
    if settings.chosen == "shortest":
        order.sort(key=len)  # stable: ties as drawn
    elif settings.chosen == "likeliest":
        times = Counter(tail for tail, _, _ in found)
        order.sort(key=lambda tail: -times[tail])
    elif settings.chosen == "advantage":
        order = _by_advantage(order, found, pit.trace.token_ids[shared:], seed)
    return [right[tail] for tail in order]


Tail = tuple[int, ...]  # tokens after a shared prefix
Drawn = tuple[Tail, tuple[Trace, int], bool]


def drawn(wrong: Trace, shared: int, pool: Sequence[Judged]) -> list[Drawn]:
    """All finished continuations of a trace's first `shared` tokens: tokens, trace and where they begin in it, verdict.

    A sample, or a rollout from an earlier prefix, that repeats those tokens is a draw from there too. The wrong trace
    itself is none: it is looked at because it went wrong.
    """
    out: list[Drawn] = []
    prefix = wrong.token_ids[:shared]
    for trace, verdict in pool:
        begin = trace.prefix_tokens
        if begin > shared or trace.id == wrong.id or trace.finish_reason != "stop" or not verdict.judged:
            continue
        given = trace.prompt_token_ids[len(trace.prompt_token_ids) - begin :]
        tail = tuple(trace.token_ids[shared - begin :])
        if tail and given + trace.token_ids[: shared - begin] == prefix:
            out.append((tail, (trace, shared - begin), verdict.correct))
    return out


def _by_advantage(order: list[Tail], drawn: Sequence[Drawn], wrong: Sequence[int], seed: int) -> list[Tail]:
    """Draw without replacement, each in proportion to the advantage of the branch it takes off the wrong trace.

    A branch's value is the share of right ones among all continuations that take it; those without advantage come last.
    """
    base = sum(correct for _, _, correct in drawn) / max(1, len(drawn))
    keys = {}
    for tail in order:
        branch = tail[: common(tail, wrong) + 1]
        verdicts = [correct for other, _, correct in drawn if other[: len(branch)] == branch]
        advantage = sum(verdicts) / len(verdicts) - base
        uniform = (int(digest(seed, branch, tail, size=6), 16) + 1) / 2**48
        keys[tail] = log(uniform) / advantage if advantage > 0 else -inf  # Efraimidis and Spirakis 2006
    return sorted(order, key=lambda tail: -keys[tail])


def _step_pair(pit: Pit, chosen: Trace, skip: int, settings: StepDpoSettings, texts: Texts) -> PreferencePair | None:
    """The pair of a pit and one continuation, or None where the two do not part before the pit ends."""
    wrong = with_end(pit.trace, texts.end_id)
    right = with_end(chosen, texts.end_id)[skip:]
    whole = settings.reading == "full-solution"
    prefix = 0 if whole else pit.start
    cut = pit.end if whole or settings.rejected == "step" else len(wrong)
    apart = common(right, wrong[prefix:])
    if prefix + apart >= pit.end:
        return None
    shared = 0 if whole else prefix + apart
    return _pair(
        chosen,
        pit.trace,
        [*pit.trace.prompt_token_ids, *wrong[:shared]],
        shared,
        right[shared - prefix :],
        wrong[shared:cut],
        texts,
        pit,
    )


def _pair(
    chosen: Trace,
    rejected: Trace,
    prompt_ids: list[int],
    prefix: int,
    chosen_ids: list[int],
    rejected_ids: list[int],
    texts: Texts,
    pit: Pit | None = None,
) -> PreferencePair:
    steps = prompt_ids[len(prompt_ids) - prefix :]
    head, good = texts.split(steps, chosen_ids)
    _, bad = texts.split(steps, rejected_ids)
    return PreferencePair(
        id="d-" + digest(chosen.id, rejected.id, prefix, len(rejected_ids)),
        problem_id=rejected.problem_id,
        chosen_trace=chosen.id,
        rejected_trace=rejected.id,
        prompt_token_ids=prompt_ids,
        prefix_tokens=prefix,
        chosen_token_ids=chosen_ids,
        rejected_token_ids=rejected_ids,
        prompt=texts.prompt + head,
        chosen=good,
        rejected=bad,
        q_before=pit.before.q if pit else None,
        q_after=pit.after.q if pit else None,
        judged_before=pit.before.judged if pit else 0,
        judged_after=pit.after.judged if pit else 0,
        correct_before=pit.before.correct if pit else 0,
        correct_after=pit.after.correct if pit else 0,
        exact_after=pit.after.exact if pit else False,
        step=pit.after.step if pit else None,
        confidence=pit.after.confidence if pit else None,
    )
