"""SFT and RFT sets: which solutions a policy is trained on. Pure: rendering and decoding come as arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from app.datasets.diversity import most_diverse, signature
from app.datasets.settings import RftSettings
from app.errors import UserError
from app.judged import Judged, distinct
from app.problems.overlap import statement_digest
from app.records import Example, Problem, StepValue, Trace, digest
from app.verification.arithmetic import wrong


def refuse_evaluation(problems: Iterable[Problem], evaluation: set[str]) -> None:
    """Raise UserError where one of the problems is also an evaluation problem (a set of `statement_digest`)."""
    for problem in problems:
        if problem.split != "train" or statement_digest(problem.statement) in evaluation:
            raise UserError(
                f"problem {problem.id} ({problem.statement[:60]!r}...) is a training and an evaluation problem; "
                "take it out of one of them, or let the problems stage drop overlaps"
            )


def teacher_example(
    problem: Problem,
    prompt: Callable[[str], str],
    prompt_ids: Callable[[str], list[int]],
    completion_ids: Callable[[str], list[int]],
) -> Example | None:
    """The teacher's solution as an example; None where the problem has none."""
    if not problem.solution or not problem.solution.strip():
        return None
    return Example(
        id="e-" + digest("teacher", problem.id, problem.solution),
        problem_id=problem.id,
        trace_id=None,
        prompt_token_ids=prompt_ids(problem.statement),
        completion_token_ids=completion_ids(problem.solution),
        prompt=prompt(problem.statement),
        completion=problem.solution,
    )


def right_traces(samples: Sequence[Judged], k: int, seed: int) -> list[Trace]:
    """The k most diverse correct traces of a problem that came to their own end, one for each distinct solution.

    Which of several equal solutions stands for them, and who wins ties, is drawn by `seed` and the traces' ids; the
    order of `samples` does not matter.
    """
    traces = distinct(samples, True, lambda t: digest(seed, t.id), alike=lambda t: signature(t.text))
    chosen = most_diverse([trace.token_ids for trace in traces], k)
    return [traces[i] for i in chosen]


def doubtful(samples: Sequence[Judged], values: Sequence[StepValue], settings: RftSettings) -> dict[str, str]:
    """Right traces whose reasoning is in doubt, with the reason, as far as the settings ask.

    Args:
        values: what credit wrote of the problem; a trace it did not look at has no rows, and no doubt but by its sums.
    """
    steps: dict[str, list[StepValue]] = {}
    for row in values:
        if row.right and row.step and row.advantage is not None:
            steps.setdefault(row.trace_id, []).append(row)
    found = {}
    for trace, verdict in samples:
        if not verdict.correct:
            continue
        mine = steps.get(trace.id, [])
        idle = sum(row.note == "no_progress" for row in mine)
        if settings.drop_wrong_sums and wrong(trace.text):
            found[trace.id] = "wrong_sums"
        elif settings.drop_lucky_wrong and any(row.note == "sharp_drop" for row in mine):
            found[trace.id] = "lucky_wrong"
        elif idle > settings.max_no_progress * len(mine):
            found[trace.id] = "no_progress"
    return found


def own_example(trace: Trace, prompt: str, end_id: int) -> Example:
    """A trace of the policy as an example: its tokens as they are, the end token last (engines may leave it out)."""
    return Example(
        id="e-" + digest("own", trace.id),
        problem_id=trace.problem_id,
        trace_id=trace.id,
        prompt_token_ids=trace.prompt_token_ids,
        completion_token_ids=with_end(trace, end_id),
        prompt=prompt,
        completion=trace.text,
    )


def with_end(trace: Trace, end_id: int) -> list[int]:
    """The trace's tokens, closed by the end token where the policy stopped and the engine left it out."""
    ids = list(trace.token_ids)
    return [*ids, end_id] if trace.finish_reason == "stop" and ids[-1:] != [end_id] else ids
