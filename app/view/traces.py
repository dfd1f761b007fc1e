"""The traces of a run, to look through: an index that holds a million of them, and one trace with all that is known.

Texts, tokens and step values are no part of the index: they are read from their shards when a trace is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from app.errors import UserError
from app.records import PreferencePair, Problem, StepValue, Trace, Verdict
from app.store import Output

PAGE = 100  # traces a page of the list
SORTS = {"": [], "problem": [("problem", "ascending"), ("sample", "ascending")], "pit": [("pit", "descending")]}

SOLVED: dict[str, Callable[[Any], Any]] = {
    "none": lambda share: pc.equal(share, 0),
    "some": lambda share: pc.and_(pc.greater(share, 0), pc.less(share, 1)),
    "all": lambda share: pc.equal(share, 1),
}


@dataclass(frozen=True)
class Asked:
    """Which traces a list is to show; empty: all of them."""

    outcome: str = ""
    reason: str = ""
    finish: str = ""
    pit: bool = False  # only those with a first pit
    problem: str = ""
    solved: str = ""  # of the problem: by none, some or all of its judged traces
    words: str = ""  # in the trace's text, upper and lower case alike
    sort: str = ""


class Samples:
    """One policy's samples with their verdicts and, where there are any, step values and pairs.

    `judged` is the kind of the verdicts' shards: an evaluation keeps them beside its traces.
    """

    def __init__(
        self, outputs: dict[str, Output], problems: Output, pairs: dict[str, Output], judged: str = "part"
    ) -> None:
        self.sampling, self.verification = outputs["sampling"], outputs.get("verification")
        self.credit, self.problems, self.pairs, self.judged = outputs.get("credit"), problems, pairs, judged

    @cached_property
    def index(self) -> pa.Table:
        """A row a trace: shard, row, problem, sample, finish, outcome, reason, pit, valued."""
        parts = [self._part(shard) for shard in self.sampling.done_shards()]
        return (
            pa.concat_tables(parts).unify_dictionaries() if parts else self._table([], [], [], [], [], [], [], [], [])
        )

    def _part(self, shard: int) -> pa.Table:
        read = self.sampling.read_shard(shard, ["id", "problem_id", "sample", "finish_reason"])
        ids = read["id"].to_pylist()
        judged, valued, pits = self._verdicts(shard), set[str](), set[str]()
        if self.credit and shard in self.credit.done_shards():
            values = self.credit.read_shard(shard, ["trace_id", "first_pit"])
            valued = set(pc.unique(values["trace_id"]).to_pylist())
            pits = set(values.filter(values["first_pit"])["trace_id"].to_pylist())
        outcomes, reasons = zip(*(judged.get(each, ("", "")) for each in ids), strict=True) if ids else ((), ())
        return self._table(
            [shard] * len(ids),
            range(len(ids)),
            read["problem_id"].to_pylist(),
            read["sample"].to_pylist(),
            read["finish_reason"].to_pylist(),
            outcomes,
            reasons,
            [each in pits for each in ids],
            [each in valued for each in ids],
        )

    def _table(self, *columns: Any) -> pa.Table:
        words = pa.dictionary(pa.int32(), pa.string())
        kinds = [pa.int32(), pa.int32(), words, pa.int32(), words, words, words, pa.bool_(), pa.bool_()]
        names = ["shard", "row", "problem", "sample", "finish", "outcome", "reason", "pit", "valued"]
        arrays = [pa.array(list(column), kind) for column, kind in zip(columns, kinds, strict=True)]
        return pa.table(dict(zip(names, arrays, strict=True)))

    def _verdicts(self, shard: int) -> dict[str, tuple[str, str]]:
        """Outcome and reason by trace; none of a shard that is not judged yet."""
        if self.verification is None or shard not in self.verification.done_shards():
            return {}
        columns = self.verification.read_shard(shard, ["trace_id", "outcome", "reason"], self.judged).to_pydict()
        pairs = zip(columns["outcome"], columns["reason"], strict=True)
        return dict(zip(columns["trace_id"], pairs, strict=True))

    @cached_property
    def shares(self) -> pa.Table:
        """A row a problem: how many of its traces are judged, and the share of these that are right."""
        outcome = self.index["outcome"].cast(pa.string())
        judged = pc.is_in(outcome, value_set=pa.array(["correct", "incorrect", "unparsed"]))
        right = pc.equal(outcome, "correct").cast(pa.float64())
        table = pa.table({"problem": self.index["problem"].cast(pa.string()), "share": right}).filter(judged)
        found = table.group_by("problem").aggregate([("share", "mean"), ("share", "count")])
        return found.rename_columns(["problem", "share", "judged"])

    def first(self, right: bool) -> pa.Table:
        """Rows of the index of each problem's sample 0, the greedy one of an evaluation, that are right, or wrong."""
        correct = pc.equal(self.index["outcome"].cast(pa.string()), "correct")
        return self.index.filter(pc.and_(pc.equal(self.index["sample"], 0), correct if right else pc.invert(correct)))

    def against(self, other: Samples, won: bool) -> pa.Table:
        """Those that are right where another policy's are wrong, or the other way round."""
        mine, theirs = self.first(won), other.first(not won)
        problems = theirs["problem"].cast(pa.string()).combine_chunks()
        return mine.filter(pc.is_in(mine["problem"].cast(pa.string()), value_set=problems))

    def listed(self, asked: Asked, start: int = 0, among: pa.Table | None = None) -> dict[str, Any]:
        """A page of the traces that were asked for, of all or among some rows of the index, and how many there are."""
        found = self.index if among is None else among
        for column in ("outcome", "reason", "finish", "problem"):
            if wanted := getattr(asked, column):
                found = found.filter(pc.equal(found[column].cast(pa.string()), wanted))
        if asked.pit:
            found = found.filter(found["pit"])
        if asked.solved:
            problems = self.shares.filter(SOLVED[asked.solved](self.shares["share"]))["problem"].combine_chunks()
            found = found.filter(pc.is_in(found["problem"].cast(pa.string()), value_set=problems))
        if asked.words:
            found = self._with_words(found, asked.words)
        if order := SORTS.get(asked.sort):
            plain = found.set_column(2, "problem", found["problem"].cast(pa.string()))
            found = found.take(pc.sort_indices(plain, sort_keys=order))
        return {"total": found.num_rows, "start": start, "rows": found.slice(start, PAGE).to_pylist()}

    def _with_words(self, found: pa.Table, words: str) -> pa.Table:
        """Those whose text has the words; reads the texts of the shards that are left, one after the other."""
        kept = []
        for shard in pc.unique(found["shard"]).to_pylist():
            mine = found.filter(pc.equal(found["shard"], shard))
            texts = self.sampling.read_shard(shard, ["text"])["text"].take(mine["row"])
            kept.append(mine.filter(pc.match_substring(texts, words, ignore_case=True)))
        return pa.concat_tables(kept) if kept else found

    def one(self, shard: int, row: int) -> dict[str, Any]:
        """All that is known of a trace. Raises UserError where there is none such."""
        if shard not in self.sampling.done_shards() or row >= (table := self.sampling.read_shard(shard)).num_rows:
            raise UserError(f"no trace {row} in shard {shard}")
        [trace] = Trace.from_table(table.slice(row, 1))
        problem = self._problem(trace.problem_id)
        verdict = self._verdict(shard, trace.id)
        values = self._steps(shard, trace.id)
        names = table["problem_id"].to_pylist()
        others = [n for n, name in enumerate(names) if name == trace.problem_id]
        return {
            "id": trace.id,
            "problem": {"id": problem.id, "statement": problem.statement, "answer": problem.answer},
            "text": trace.text,
            "sample": trace.sample,
            "finish": trace.finish_reason,
            "tokens": len(trace.token_ids),
            "verdict": verdict
            and {name: getattr(verdict, name) for name in ("outcome", "extracted", "reason", "tier")},
            "start": next((_value(value) for value in values if not value.step), None),
            "steps": [_value(value) for value in values if value.step],
            "unvalued": "" if values else self._why(trace, verdict),
            "siblings": others,
            "pairs": list(self._pairs(trace.id)),
        }

    def rollouts(self, shard: int, row: int, step: int) -> list[dict[str, Any]]:
        """What credit sampled from behind a step of a trace; none where others' rollouts were enough."""
        if self.credit is None or shard not in self.credit.done_shards("rollouts"):
            return []
        [trace] = Trace.from_table(self.sampling.read_shard(shard).slice(row, 1))
        ends = {value.step: value.end for value in self._steps(shard, trace.id)}
        if step not in ends:
            raise UserError(f"no step {step} in trace {row} of shard {shard}")
        start = [*trace.prompt_token_ids, *trace.token_ids[: ends[step]]]
        drawn = self.credit.read_shard(shard, kind="rollouts")
        mine = Trace.from_table(drawn.filter(pc.equal(drawn["problem_id"], trace.problem_id)))
        verdicts = {v.trace_id: v for v in Verdict.from_table(self.credit.read_shard(shard, kind="verdicts"))}
        return [
            {"text": one.text, "finish": one.finish_reason, "outcome": verdicts[one.id].outcome}
            for one in mine
            if one.prompt_token_ids == start
        ]

    def _verdict(self, shard: int, name: str) -> Verdict | None:
        if self.verification is None or shard not in self.verification.done_shards():
            return None
        table = self.verification.read_shard(shard, kind=self.judged)
        return next(iter(Verdict.from_table(table.filter(pc.equal(table["trace_id"], name)))), None)

    def _steps(self, shard: int, name: str) -> list[StepValue]:
        if self.credit is None or shard not in self.credit.done_shards():
            return []
        table = self.credit.read_shard(shard)
        found = StepValue.from_table(table.filter(pc.equal(table["trace_id"], name)))
        return sorted(found, key=lambda value: value.step)

    def _why(self, trace: Trace, verdict: Verdict | None) -> str:
        """Why credit did not look at a trace."""
        if self.credit is None:
            return "this run has no step values of these samples"
        if trace.finish_reason != "stop":
            return "credit looks at no trace that was cut off"
        if verdict and verdict.correct:
            return "credit looks at wrong traces, and at right ones where credit.correct_traces asks for them"
        return (
            "credit did not look at it: its problem has no right and wrong trace, the same tokens stand in another "
            "sample, or credit.traces_per_problem was reached"
        )

    @lru_cache(maxsize=4096)  # noqa: B019 - lives as long as the server
    def _problem(self, name: str) -> Problem:
        for table in self.problems.tables():
            found = table.filter(pc.equal(table["id"], name))
            if found.num_rows:
                return Problem.from_table(found)[0]
        raise UserError(f"no problem {name}")

    def _pairs(self, name: str) -> Iterator[dict[str, Any]]:
        """Preference pairs that a trace is part of."""
        for label, output in self.pairs.items():
            for shard in output.done_shards():
                sides = output.read_shard(shard, ["chosen_trace", "rejected_trace"])
                mask = pc.or_(pc.equal(sides["chosen_trace"], name), pc.equal(sides["rejected_trace"], name))
                if pc.any(mask).as_py():
                    for pair in PreferencePair.from_table(output.read_shard(shard).filter(mask)):
                        yield _pair(label, pair, name)


def _pair(label: str, pair: PreferencePair, name: str) -> dict[str, Any]:
    body = {key: getattr(pair, key) for key in ("prompt", "chosen", "rejected", "q_before", "q_after", "step")}
    return {"set": label, "side": "rejected" if pair.rejected_trace == name else "chosen", **body}


def _value(value: StepValue) -> dict[str, Any]:
    names = ("step", "text", "q", "low", "high", "correct", "judged", "advantage", "first_pit", "confidence", "note")
    return {name: getattr(value, name) for name in (*names, "wrong_sums")} | {"why": value.unvalued}
