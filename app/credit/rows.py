"""What was found of a trace, as rows: one a step, whether its value is known or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.credit.search import Finding
from app.credit.steps import Step
from app.credit.values import Estimate, advantages, best_of, fall
from app.records import StepValue, Trace
from app.verification.arithmetic import equations

NO_PROGRESS, SHARP_DROP = "no_progress", "sharp_drop"


def rows(trace: Trace, steps: Sequence[Step], finding: Finding, best: int = 1, right: bool = False) -> list[StepValue]:
    """Rows 0 (the bare problem) to n of a trace.

    Args:
        best: values are those of the policy that takes the best of so many rollouts.
        right: the trace itself ended right.
    """
    shares = {step: best_of(value.q, best) for step, value in finding.values.items() if value.q is not None}
    gains = advantages(shares)
    marks = notes(finding.values, len(steps)) if right else {}
    out = []
    for step in range(len(steps) + 1):
        value = finding.values.get(step, Estimate())
        here = steps[step - 1] if step else Step(0, 0, "")
        written = equations(here.text)
        out.append(
            StepValue(
                trace_id=trace.id,
                problem_id=trace.problem_id,
                step=step,
                start=here.start,
                end=here.end,
                text=here.text,
                correct=value.correct,
                judged=value.judged,
                q=shares.get(step),
                low=best_of(value.interval[0], best),
                high=best_of(value.interval[1], best),
                advantage=gains.get(step),
                first_pit=step == finding.first_pit,
                confidence=finding.posterior[step - 1] if step and finding.posterior else None,
                right=right,
                note=marks.get(step, ""),
                sums=len(written),
                wrong_sums=sum(not equation.holds for equation in written),
            )
        )
    return out


def notes(values: Mapping[int, Estimate], steps: int) -> dict[int, str]:
    """What is odd about steps of a right trace.

    `sharp_drop`: Q fell for certain (values.fall), and yet the trace ended right: something wrong in it was made up
    for, by luck or by a repair. `no_progress`: Q did not rise although there was room, as far as the rollouts tell.
    """
    out = {}
    for step in range(1, steps + 1):
        before, after = values.get(step - 1, Estimate()), values.get(step, Estimate())
        if before.q is None or after.q is None:
            continue
        if fall(before, after):
            out[step] = SHARP_DROP
        elif after.q <= before.q < 1:
            out[step] = NO_PROGRESS
    return out


def evidence(steps: Sequence[Step], weight: float) -> list[float] | None:
    """Prior weights of the change point from the sums written in the steps: the first wrong one counts `weight` times.

    None where no sum is wrong.
    """
    first = next((i for i, step in enumerate(steps) if any(not e.holds for e in equations(step.text))), None)
    return None if first is None else [weight if i == first else 1.0 for i in range(len(steps))]
