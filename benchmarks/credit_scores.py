"""What a search achieved against the oracle of the grade-school world, and against values from many rollouts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.credit.problem import Credit
from app.datasets.pairs import Texts, pits, step_pairs
from app.datasets.settings import StepDpoSettings
from app.judged import Judged
from app.records import PreferencePair, Problem, StepValue, Trace
from benchmarks.world_oracle import first_wrong_line

NO_LINE = 99  # distance of a pit in a trace in which the oracle finds no wrong line
Truth = dict[str, list[float]]  # by trace: Q after steps 0 to n


@dataclass(frozen=True)
class World:
    """The problems and their samples, which every search sees."""

    problems: dict[str, Problem]
    samples: Mapping[str, Sequence[Judged]]

    def traces(self) -> dict[str, Trace]:
        return {trace.id: trace for samples in self.samples.values() for trace, _ in samples}

    def line(self, trace: Trace) -> int | None:
        """The oracle's first wrong line, from 0."""
        return first_wrong_line(self.problems[trace.problem_id], trace.text)


@dataclass(frozen=True)
class Score:
    """What one search achieved. `off` counts pits by their distance from the oracle's line."""

    name: str
    traces: int
    tokens: float  # a trace
    off: Counter[int]
    q_error: float | None  # mean absolute error of the inner prefixes' values that it knows
    valued: float  # share of inner prefixes it knows a value of

    @property
    def pits(self) -> int:
        return self.off.total()

    @property
    def exact(self) -> float:
        return self.off[0] / self.traces

    @property
    def near(self) -> float:
        return sum(self.off[d] for d in (-1, 0, 1)) / self.traces


def score(name: str, credit: Credit, world: World, truth: Truth) -> Score:
    """Compare a search's pits with the oracle, and its values with the reference values where there are some."""
    off = Counter(distances(credit, world).values())
    values = by_trace(credit)
    inner = [row for rows in values.values() for row in rows[1:-1]]
    known = [row for row in inner if row.q is not None]
    errors = [
        abs(row.q - truth[row.trace_id][row.step]) for row in known if row.q is not None and row.trace_id in truth
    ]
    return Score(
        name,
        len(values),
        credit.counts["tokens"] / len(values),
        off,
        sum(errors) / len(errors) if errors else None,
        len(known) / max(1, len(inner)),
    )


def by_trace(credit: Credit) -> dict[str, list[StepValue]]:
    """Rows of each trace, by step."""
    out: dict[str, list[StepValue]] = {}
    for row in sorted(credit.values, key=lambda row: row.step):
        out.setdefault(row.trace_id, []).append(row)
    return out


def distances(credit: Credit, world: World) -> dict[str, int]:
    """How many lines each named pit lies behind the oracle's line, by trace."""
    traces, out = world.traces(), {}
    for row in credit.values:
        if row.first_pit:
            line = world.line(traces[row.trace_id])
            out[row.trace_id] = NO_LINE if line is None else row.step - 1 - line
    return out


def reasons(credit: Credit, world: World, truth: Truth) -> Counter[str]:
    """Why pits differ from the oracle's lines, by values of many rollouts: the oracle judges lines, credit chances."""
    found: Counter[str] = Counter()
    for trace, off in distances(credit, world).items():
        if off == 0:
            continue
        if off == NO_LINE:
            found["no line is wrong"] += 1
            continue
        q = truth[trace]
        pit = next(row.step for row in by_trace(credit)[trace] if row.first_pit)
        wrong = pit - off  # the oracle's line as a step
        fell, should = q[pit - 1] - q[pit], q[wrong - 1] - q[wrong]
        if off < 0:
            found["Q falls before the wrong line" if fell >= should else "misled, too early"] += 1
        else:
            found["the policy makes up for the line" if q[wrong] >= q[wrong - 1] / 2 else "misled, too late"] += 1
    found["no pit named"] = len(by_trace(credit)) - len(distances(credit, world))
    return found


def pairs(credit: Credit, world: World, texts: Texts, settings: StepDpoSettings) -> list[PreferencePair]:
    """The step pairs that datasets/step_dpo would make of a search."""
    rollouts: dict[str, list[Judged]] = {}
    for trace, verdict in zip(credit.rollouts, credit.verdicts, strict=True):
        rollouts.setdefault(trace.problem_id, []).append((trace, verdict))
    made: list[PreferencePair] = []
    for name, samples in world.samples.items():
        mine = [row for row in credit.values if row.problem_id == name]
        found = pits([trace for trace, _ in samples], mine, settings.min_q_before, settings.min_confidence)
        made += step_pairs(found, samples, rollouts.get(name, []), settings, 0, texts)
    return made


def quality(made: Iterable[PreferencePair], world: World) -> float | None:
    """Share of pairs that part at the true first error."""
    traces = world.traces()
    hits = [pair.step is not None and world.line(traces[pair.rejected_trace]) == pair.step - 1 for pair in made]
    return sum(hits) / len(hits) if hits else None
