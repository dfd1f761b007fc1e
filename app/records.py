"""The vocabulary: what passes between stages, one frozen dataclass and one Arrow schema each.

Every record has a string id derived from what it is, never from when or where it was made, so that two runs of one
recipe produce the same ids. Token ids are int32 and are never re-encoded: the text beside them is for people.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import pyarrow as pa

TOKENS = pa.list_(pa.int32())
OUTCOMES = ("correct", "incorrect", "unparsed", "timeout", "error")
FINISH_REASONS = ("stop", "length", "abort")  # by itself; at a limit; given up by the engine
JUDGED = ("correct", "incorrect", "unparsed")  # timeout and error say nothing about the trace


def digest(*parts: Any, size: int = 12) -> str:
    """Hex digest of the parts (JSON, sorted keys), `size` bytes long: the root of every id and key."""
    body = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.blake2b(body.encode(), digest_size=size).hexdigest()


def seed_from(*parts: Any) -> int:
    """A seed in [0, 2^31) fixed by the parts, so the same request is drawn on any actor in any order."""
    return int(digest(*parts, size=4), 16) & 0x7FFF_FFFF


class Record:
    """Conversion between a dataclass and rows of its Arrow schema."""

    schema: ClassVar[pa.Schema]

    @classmethod
    def table(cls, records: Iterable[Self]) -> pa.Table:
        """Records as an Arrow table of this record's schema."""
        rows = list(records)
        columns = [pa.array([getattr(row, field.name) for row in rows], field.type) for field in cls.schema]
        return pa.Table.from_arrays(columns, schema=cls.schema)

    @classmethod
    def from_table(cls, table: pa.Table) -> list[Self]:
        """Rows of an Arrow table as records; columns the schema does not name are ignored."""
        names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
        return [cls(**row) for row in table.select(names).to_pylist()]


@dataclass(frozen=True, slots=True)
class Problem(Record):
    """A question with a reference answer. `solution` is a reference or teacher solution where one is known."""

    id: str
    statement: str
    answer: str
    split: str  # train, validation or test
    source: str  # where it came from: "world", a file's name, a data set's name, "synthesis"
    solution: str | None = None
    meta: str = "{}"  # JSON; sources may keep what only they understand

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("statement", pa.string(), nullable=False),
            pa.field("answer", pa.string(), nullable=False),
            pa.field("split", pa.string(), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            pa.field("solution", pa.string()),
            pa.field("meta", pa.string(), nullable=False),
        ]
    )


@dataclass(frozen=True, slots=True)
class Trace(Record):
    """One sampled solution. `token_ids` is what the policy wrote, after `prompt_token_ids`.

    A rollout is a Trace whose prompt holds the first `prefix_tokens` tokens of its parent trace after the problem's own
    prompt; for a plain sample the two are 0 and None.
    """

    id: str
    problem_id: str
    sample: int  # index among the problem's samples
    seed: int
    policy: str  # fingerprint of the weights that wrote it
    prompt_token_ids: list[int]
    token_ids: list[int]
    text: str
    finish_reason: str  # one of FINISH_REASONS
    prefix_tokens: int = 0
    parent: str | None = None

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("problem_id", pa.string(), nullable=False),
            pa.field("sample", pa.int32(), nullable=False),
            pa.field("seed", pa.int64(), nullable=False),
            pa.field("policy", pa.string(), nullable=False),
            pa.field("prompt_token_ids", TOKENS, nullable=False),
            pa.field("token_ids", TOKENS, nullable=False),
            pa.field("text", pa.string(), nullable=False),
            pa.field("finish_reason", pa.string(), nullable=False),
            pa.field("prefix_tokens", pa.int32(), nullable=False),
            pa.field("parent", pa.string()),
        ]
    )


def trace_id(problem_id: str, sample: int, policy: str, purpose: str = "sample") -> str:
    """Id of a trace: who was asked what, the how-manieth time. Not its text: a retry must get the same id."""
    return "t-" + digest(problem_id, sample, policy, purpose)


@dataclass(frozen=True, slots=True)
class Verdict(Record):
    """What the verifier said of one trace. `timeout` and `error` are never counted as wrong answers."""

    trace_id: str
    outcome: str  # one of OUTCOMES
    extracted: str | None
    reason: str  # stable code: why
    tier: str  # which tier decided
    seconds: float

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("trace_id", pa.string(), nullable=False),
            pa.field("outcome", pa.string(), nullable=False),
            pa.field("extracted", pa.string()),
            pa.field("reason", pa.string(), nullable=False),
            pa.field("tier", pa.string(), nullable=False),
            pa.field("seconds", pa.float64(), nullable=False),
        ]
    )

    @property
    def correct(self) -> bool:
        return self.outcome == "correct"

    @property
    def judged(self) -> bool:
        """Whether the outcome says anything about the trace."""
        return self.outcome in JUDGED


@dataclass(frozen=True, slots=True)
class StepValue(Record):
    """Q of a trace's prefix that ends after step `step` (tokens [0, end)); step 0 is the empty prefix, the problem.

    `q` is correct / judged over rollouts from the prefix, None where none was judged; `low` and `high` bound it
    (Wilson, 95%). Where credit.best_of = K is above 1, the three are those of the best of K rollouts. `advantage` = q -
    q of the step before, where both are known. `first_pit` marks at most one step; `confidence` is the probability that
    a step is the one at which the trace was lost. Every step of a trace has a row.
    """

    trace_id: str
    problem_id: str
    step: int
    start: int  # token offset in Trace.token_ids where the step begins
    end: int  # and where it ends
    text: str
    correct: int  # rollouts judged correct
    judged: int  # rollouts judged at all
    q: float | None
    low: float
    high: float
    advantage: float | None
    first_pit: bool
    confidence: float | None = None
    right: bool = False  # whether the trace itself ended right
    note: str = ""  # of steps of right traces: no_progress, sharp_drop (app/credit/rows.py)
    sums: int = 0  # sums written in the step that could be checked
    wrong_sums: int = 0

    @property
    def exact(self) -> bool:
        """Whether Q is certain and not sampled: its bounds are one."""
        return self.judged > 0 and self.low == self.high

    @property
    def unvalued(self) -> str:
        """Why a step of a trace that credit looked at has no Q of its own; empty where it has one."""
        if self.q is not None:
            return ""
        if self.first_pit and self.wrong_sums:
            return "no rollouts: a wrong sum written here named the step"
        if self.first_pit:
            return "no rollouts from behind the pit: those from before it and the trace's own end were enough"
        return "not looked at: the search needed no rollouts here"

    @property
    def hard(self) -> bool | None:
        """The hard label of the prefix (Math-Shepherd): some rollout ended right. None where nothing is known."""
        return self.correct > 0 if self.judged else None

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("trace_id", pa.string(), nullable=False),
            pa.field("problem_id", pa.string(), nullable=False),
            pa.field("step", pa.int32(), nullable=False),
            pa.field("start", pa.int32(), nullable=False),
            pa.field("end", pa.int32(), nullable=False),
            pa.field("text", pa.string(), nullable=False),
            pa.field("correct", pa.int32(), nullable=False),
            pa.field("judged", pa.int32(), nullable=False),
            pa.field("q", pa.float64()),
            pa.field("low", pa.float64(), nullable=False),
            pa.field("high", pa.float64(), nullable=False),
            pa.field("advantage", pa.float64()),
            pa.field("first_pit", pa.bool_(), nullable=False),
            pa.field("confidence", pa.float64()),
            pa.field("right", pa.bool_(), nullable=False),
            pa.field("note", pa.string(), nullable=False),
            pa.field("sums", pa.int32(), nullable=False),
            pa.field("wrong_sums", pa.int32(), nullable=False),
        ]
    )


@dataclass(frozen=True, slots=True)
class Example(Record):
    """One training example of SFT or RFT: loss on `completion_token_ids` only, which end with the end token."""

    id: str
    problem_id: str
    trace_id: str | None  # the trace it came from; None for a teacher's solution
    prompt_token_ids: list[int]
    completion_token_ids: list[int]
    prompt: str
    completion: str
    weight: float = 1.0

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("problem_id", pa.string(), nullable=False),
            pa.field("trace_id", pa.string()),
            pa.field("prompt_token_ids", TOKENS, nullable=False),
            pa.field("completion_token_ids", TOKENS, nullable=False),
            pa.field("prompt", pa.string(), nullable=False),
            pa.field("completion", pa.string(), nullable=False),
            pa.field("weight", pa.float64(), nullable=False),
        ]
    )


@dataclass(frozen=True, slots=True)
class LabelledExample(Record):
    """A completion, or one step of one, that is right or wrong by itself. `label` as in TRL: true = desirable."""

    id: str
    problem_id: str
    trace_id: str
    prompt_token_ids: list[int]
    completion_token_ids: list[int]
    prompt: str
    completion: str
    label: bool
    weight: float = 1.0

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("problem_id", pa.string(), nullable=False),
            pa.field("trace_id", pa.string(), nullable=False),
            pa.field("prompt_token_ids", TOKENS, nullable=False),
            pa.field("completion_token_ids", TOKENS, nullable=False),
            pa.field("prompt", pa.string(), nullable=False),
            pa.field("completion", pa.string(), nullable=False),
            pa.field("label", pa.bool_(), nullable=False),
            pa.field("weight", pa.float64(), nullable=False),
        ]
    )


@dataclass(frozen=True, slots=True)
class PreferencePair(Record):
    """Chosen over rejected after a shared prompt. The prompt's last `prefix_tokens` tokens are the shared steps.

    DPO pairs have prefix_tokens = 0; per-step DPO pairs share the steps before the first pit. `q_before` and `q_after`
    are Q before and after the rejected step, None for plain DPO; `correct_*` of `judged_*` are the rollouts behind
    them. `exact_after`: nothing can change any more after the step, so that Q is known without rollouts. `step` is the
    pit's number in the rejected trace, `confidence` how sure credit was of it.
    """

    id: str
    problem_id: str
    chosen_trace: str
    rejected_trace: str
    prompt_token_ids: list[int]
    prefix_tokens: int
    chosen_token_ids: list[int]
    rejected_token_ids: list[int]
    prompt: str
    chosen: str
    rejected: str
    q_before: float | None = None
    q_after: float | None = None
    judged_before: int = 0
    judged_after: int = 0
    correct_before: int = 0
    correct_after: int = 0
    exact_after: bool = False
    weight: float = 1.0
    step: int | None = None
    confidence: float | None = None

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("problem_id", pa.string(), nullable=False),
            pa.field("chosen_trace", pa.string(), nullable=False),
            pa.field("rejected_trace", pa.string(), nullable=False),
            pa.field("prompt_token_ids", TOKENS, nullable=False),
            pa.field("prefix_tokens", pa.int32(), nullable=False),
            pa.field("chosen_token_ids", TOKENS, nullable=False),
            pa.field("rejected_token_ids", TOKENS, nullable=False),
            pa.field("prompt", pa.string(), nullable=False),
            pa.field("chosen", pa.string(), nullable=False),
            pa.field("rejected", pa.string(), nullable=False),
            pa.field("q_before", pa.float64()),
            pa.field("q_after", pa.float64()),
            pa.field("judged_before", pa.int32(), nullable=False),
            pa.field("judged_after", pa.int32(), nullable=False),
            pa.field("correct_before", pa.int32(), nullable=False),
            pa.field("correct_after", pa.int32(), nullable=False),
            pa.field("exact_after", pa.bool_(), nullable=False),
            pa.field("weight", pa.float64(), nullable=False),
            pa.field("step", pa.int32()),
            pa.field("confidence", pa.float64()),
        ]
    )


def totals(rows: Iterable[dict[str, float]]) -> dict[str, float]:
    """Sum of count dictionaries, key by key."""
    out: dict[str, float] = {}
    for row in rows:
        for key, value in row.items():
            out[key] = out.get(key, 0) + value
    return out


def chunked(rows: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Consecutive slices of at most `size` rows."""
    return [rows[i : i + size] for i in range(0, len(rows), size)]
