"""Which traces the page shows, and how: a right beside a wrong one of the same problem, steps with their values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.records import Problem, StepValue, Trace, Verdict
from app.store import Output

COMPARED = 24  # problems with a right and a wrong sampled trace
ODD = 8  # problems with a trace that has no answer, or that could not be judged
TESTED = 24  # evaluation problems on which methods disagree
LONGEST = 6000  # characters of a trace shown


@dataclass(frozen=True, slots=True)
class StepView:
    """A piece of a trace: with the value after it where one is known."""

    text: str
    value: StepValue | None = None


@dataclass(frozen=True, slots=True)
class TraceView:
    """A trace with its verdict. `start` is the value of the bare problem, `first_pit` the piece it went wrong in."""

    label: str
    trace: Trace
    verdict: Verdict
    pieces: tuple[StepView, ...]
    start: StepValue | None = None
    cut: int = 0  # characters not shown

    @property
    def valued(self) -> bool:
        return self.start is not None or any(piece.value is not None for piece in self.pieces)

    @property
    def has_pit(self) -> bool:
        return any(piece.value is not None and piece.value.first_pit for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Card:
    """One problem and a few of its traces."""

    kind: str  # sampled or tested
    problem: Problem
    traces: tuple[TraceView, ...]
    compared: tuple[str, ...] = ()  # won-METHOD, lost-METHOD: against the baseline, on a held-out problem

    @property
    def tags(self) -> list[str]:
        """What the page's filter can ask for."""
        found = {self.kind, *self.compared, *(view.verdict.outcome for view in self.traces)}
        return sorted(found | {"pit" for view in self.traces if view.has_pit})


def pieces(text: str, values: list[StepValue]) -> tuple[StepView, ...]:
    """A trace's text cut into its valued steps and the stretches between them, which have no value of their own.

    A search looks at some steps only, so `values` may leave any of them out; step 0, the bare problem, is not a piece.
    """
    out, at = [], 0
    for value in sorted(values, key=lambda v: v.step):
        if value.step == 0 or not value.text:
            continue
        found = text.find(value.text, at)
        if found < 0:  # text that decoding on its own changed, such as a character cut in two: shown as it was valued
            out.append(StepView(value.text, value))
            continue
        if text[at:found].strip():
            out.append(StepView(text[at:found]))
        at = found + len(value.text)
        out.append(StepView(value.text, value))
    if text[at:].strip() or not out:
        out.append(StepView(text[at:]))
    return tuple(out)


def view(label: str, trace: Trace, verdict: Verdict, values: list[StepValue]) -> TraceView:
    """One trace for the page; a very long one is cut, and says so."""
    if values:
        start = next((value for value in values if value.step == 0), None)
        return TraceView(label, trace, verdict, pieces(trace.text, values), start)
    return TraceView(label, trace, verdict, (StepView(trace.text[:LONGEST]),), cut=max(0, len(trace.text) - LONGEST))


def sampled(inputs: dict[str, Output], problems: str) -> list[Card]:
    """Cards of sampled traces of each policy that was sampled, as many of one as of another."""
    policies = [name.partition("/")[2] for name in inputs if name.startswith("sampling/")]
    known = {p.id: p for table in inputs[problems].tables() for p in Problem.from_table(table)} if policies else {}
    cards: list[Card] = []
    for policy in policies:
        cards += _sampled(inputs, policy, known, max(1, COMPARED // len(policies)), max(1, ODD // len(policies)))
    return cards


def _sampled(inputs: dict[str, Output], policy: str, known: dict[str, Problem], most: int, most_odd: int) -> list[Card]:
    """The first problems, by id, that have a right and a wrong trace of the policy, then odd ones."""
    if f"verification/{policy}" not in inputs:
        return []
    compared: list[Card] = []
    odd: list[Card] = []
    values = _values(inputs.get(f"credit/{policy}"))
    for problem_id, rows in _by_problem(inputs[f"sampling/{policy}"], inputs[f"verification/{policy}"]):
        picked = _pick(rows, values)
        outcomes = {verdict.outcome for _, verdict in picked}
        card = Card(
            "sampled",
            known[problem_id],
            tuple(view(f"{policy}, sample {t.sample}", t, v, values.get(t.id, [])) for t, v in picked),
        )
        if {"correct", "incorrect"} <= outcomes and len(compared) < most:
            compared.append(card)
        elif outcomes & {"unparsed", "timeout", "error"} and len(odd) < most_odd:
            odd.append(card)
        if len(compared) == most and len(odd) == most_odd:
            break
    return compared + odd


def _by_problem(sampling: Output, verification: Output) -> Iterator[tuple[str, list[tuple[Trace, Verdict]]]]:
    for index in verification.done_shards():
        verdicts = {v.trace_id: v for v in Verdict.from_table(verification.read_shard(index))}
        grouped: dict[str, list[tuple[Trace, Verdict]]] = {}
        for trace in Trace.from_table(sampling.read_shard(index)):
            grouped.setdefault(trace.problem_id, []).append((trace, verdicts[trace.id]))
        yield from sorted(grouped.items())


def _values(credit: Output | None) -> dict[str, list[StepValue]]:
    """Step values by trace, of the first shards of credit: enough for the problems that are shown."""
    found: dict[str, list[StepValue]] = {}
    if credit is None:
        return found
    problems: set[str] = set()
    for table in credit.tables():
        for value in StepValue.from_table(table):
            found.setdefault(value.trace_id, []).append(value)
            problems.add(value.problem_id)
        if len(problems) >= 4 * (COMPARED + ODD):
            break
    return found


def _pick(rows: list[tuple[Trace, Verdict]], values: dict[str, list[StepValue]]) -> list[tuple[Trace, Verdict]]:
    """At most four traces: one right, up to two wrong (those with step values first), one odd."""

    def first(outcomes: tuple[str, ...], most: int) -> list[tuple[Trace, Verdict]]:
        of_kind = [(t, v) for t, v in rows if v.outcome in outcomes]
        return sorted(of_kind, key=lambda row: (row[0].id not in values, row[0].sample))[:most]

    return first(("correct",), 1) + first(("incorrect",), 2) + first(("unparsed", "timeout", "error"), 1)


def held_out(problems: Output, asked: Mapping[str, Output], titles: Mapping[str, str], baseline: str) -> list[Card]:
    """Cards of greedy answers: the first evaluation problems, by id, on which the trained policies disagree.

    Args:
        asked: evaluation stages by policy.
        titles: what the page calls each.
        baseline: the policy that others are compared with.
    """
    methods = list(asked)
    trained = [m for m in methods if m != "base"] or methods
    if not methods:
        return []
    known = {p.id: p for table in problems.tables() for p in Problem.from_table(table)}
    cards: list[Card] = []
    for index in asked[methods[0]].done_shards():
        greedy = {method: _greedy(asked[method], index) for method in methods}
        for problem_id in sorted(greedy[methods[0]]):
            rows = {m: greedy[m][problem_id] for m in methods if problem_id in greedy[m]}
            if len({rows[m][1].outcome for m in trained if m in rows}) > 1:
                views = tuple(view(titles[m], t, v, []) for m, (t, v) in rows.items())
                cards.append(Card("tested", known[problem_id], views, _compared(rows, baseline)))
            if len(cards) == TESTED:
                return cards
    return cards


def _compared(rows: Mapping[str, tuple[Trace, Verdict]], baseline: str) -> tuple[str, ...]:
    """Which methods won the problem against the baseline, and which lost it."""
    right = {method: verdict.correct for method, (_, verdict) in rows.items()}
    own = right.get(baseline)
    return tuple(f"{'won' if one else 'lost'}-{name}" for name, one in right.items() if own is not None and one != own)


def _greedy(output: Output, index: int) -> dict[str, tuple[Trace, Verdict]]:
    verdicts = {v.trace_id: v for v in Verdict.from_table(output.read_shard(index, kind="verdicts"))}
    traces = Trace.from_table(output.read_shard(index))
    return {trace.problem_id: (trace, verdicts[trace.id]) for trace in traces if trace.sample == 0}
