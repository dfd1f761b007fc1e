"""Traces that others wrote, as problems, samples and verdicts of a run: a prompt, completions of it, and a reference
answer or a verdict.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from app.errors import UserError
from app.given.rows import Row, one_of, rows_of
from app.records import FINISH_REASONS, OUTCOMES, Problem, Trace, Verdict, digest
from app.rendering import Renderer
from app.settings import RenderingSettings
from app.verification.extract import Extraction, candidates

ANSWER = ("answer", "reference")
VERDICT = ("outcome", "verdict", "correct")
WRITER = "given"  # stands where a sampled trace has the fingerprint of its policy


@dataclass(frozen=True)
class Columns:
    """Names of the columns; `answer` and `verdict`: None takes the usual names that are there."""

    prompt: str = "prompt"
    completion: str = "completion"
    answer: str | None = None
    verdict: str | None = None


@dataclass
class Sample:
    """A distinct completion of a problem, and the rows it stands in."""

    id: str
    text: str
    finish_reason: str
    verdict: str | None  # an outcome, None where none was given
    places: list[str] = field(default_factory=list)


@dataclass
class Asked:
    """A prompt with its completions."""

    problem: Problem
    samples: dict[str, Sample]


@dataclass(frozen=True)
class GivenTraces:
    """All that a file of traces holds, by problem id in ascending order."""

    rendering: RenderingSettings
    asked: tuple[Asked, ...]
    judged: bool  # every row came with a verdict

    @property
    def most(self) -> int:
        """Distinct completions of the prompt that has most."""
        return max(len(each.samples) for each in self.asked)

    def problems(self) -> list[Problem]:
        return [each.problem for each in self.asked]

    def traces(self, some: slice, renderer: Renderer) -> Iterator[Trace]:
        """Samples of a slice of the problems as Traces. One that was cut ends without the end token."""
        for each in self.asked[some]:
            prompt_ids = renderer.prompt_ids(each.problem.statement)
            for number, sample in enumerate(each.samples.values()):
                ids = renderer.completion_ids(sample.text)
                yield Trace(
                    id=sample.id,
                    problem_id=each.problem.id,
                    sample=number,
                    seed=0,
                    policy=WRITER,
                    prompt_token_ids=prompt_ids,
                    token_ids=ids if sample.finish_reason == "stop" else ids[:-1],
                    text=sample.text,
                    finish_reason=sample.finish_reason,
                )

    def verdicts(self, some: slice) -> Iterator[Verdict]:
        """The verdicts that came with them."""
        for each in self.asked[some]:
            for sample in each.samples.values():
                yield Verdict(sample.id, sample.verdict or "error", None, "given", WRITER, 0.0)


def read_traces(source: str, columns: Columns) -> GivenTraces:
    """Read a file of traces.

    A prompt is the text that the model saw, or messages (a system message at most, then one of the user), which the
    model's chat template renders. Rows of the same prompt are samples of one problem; a repeated row counts once.

    Raises UserError, naming file and row, where a column is missing or two rows of a prompt do not agree.
    """
    asked: dict[str, Asked] = {}
    systems: dict[str | None, str] = {}  # system message (or "text": no messages at all) -> the first row with it
    judged = unjudged = ""
    answers: dict[str, tuple[str, str]] = {}
    for row in rows_of(source):
        statement, system = _prompt(row, columns.prompt)
        systems.setdefault(system, row.place)
        if len(systems) > 1:
            first, other = list(systems.values())[:2]
            raise UserError(
                f"{other}: a prompt of another form, or with another system message, than {first}: use one in a file"
            )
        verdict = _verdict(row, columns.verdict)
        judged, unjudged = (judged or row.place, unjudged) if verdict else (judged, unjudged or row.place)
        name = "p-" + digest(statement)
        answer = _answer(row, columns.answer)
        if answer is not None:
            before = answers.setdefault(name, (answer, row.place))
            if before[0] != answer:
                raise row.fault(f"answer {answer!r:.60}, but {before[1]} has {before[0]!r:.60} for the same prompt")
        mine = asked.setdefault(name, Asked(Problem(name, statement, "", "train", source), {}))
        _add(mine, row, columns, verdict)
    if not asked:
        raise UserError(f"{source}: no rows in it")
    if judged and unjudged:
        raise UserError(f"{unjudged}: no verdict, but {judged} has one; give verdicts for all rows or for none")
    form = next(iter(systems))
    plain = RenderingSettings(prompt="{statement}")
    rendering = plain if form == TEXT else RenderingSettings(template="chat", prompt="{statement}", system=form)
    known = [_answered(asked[name], answers.get(name)) for name in sorted(asked)]
    return GivenTraces(rendering, tuple(known), bool(judged))


TEXT = "\0text"  # in the place of a system message: the prompt is text


def _prompt(row: Row, column: str) -> tuple[str, str | None]:
    """Statement, and the system message or TEXT."""
    messages = row.messages(column)
    if messages is None:
        return row.text(column), TEXT
    system = messages[0]["content"] if messages[0]["role"] == "system" else None
    rest = messages[system is not None :]
    if len(rest) != 1 or rest[0]["role"] != "user":
        raise row.fault(
            f"column {column!r}: expected one message of the user, after a system message at most; render longer "
            "conversations with the model's template and give them as text"
        )
    return rest[0]["content"], system


def _completion(row: Row, column: str) -> str:
    messages = row.messages(column)
    if messages is None:
        return row.text(column)
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise row.fault(f"column {column!r}: expected one message of the assistant")
    return messages[0]["content"]


def _answer(row: Row, column: str | None) -> str | None:
    name = column or one_of(row, ANSWER)
    if name is None:
        return None
    value = row.values.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return row.text(name).strip()


def _verdict(row: Row, column: str | None) -> str | None:
    """The outcome a row came with; None where it has no such column."""
    name = column or one_of(row, VERDICT)
    if name is None:
        return None
    value = row.values.get(name)
    if value is None:
        raise row.fault(f"no column {name!r}, or no value in it")
    if isinstance(value, bool) or value in (0, 1):
        return "correct" if value else "incorrect"
    if value not in OUTCOMES:
        raise row.fault(f"column {name!r} must be true or false, or one of {', '.join(OUTCOMES)}; found {value!r:.60}")
    return str(value)


def _add(mine: Asked, row: Row, columns: Columns, verdict: str | None) -> None:
    text = _completion(row, columns.completion)
    ending = row.values.get("finish_reason") or "stop"
    if ending not in FINISH_REASONS:
        raise row.fault(f"column 'finish_reason' must be one of {', '.join(FINISH_REASONS)}; found {ending!r:.60}")
    name = "t-" + digest(mine.problem.id, text, ending)
    sample = mine.samples.setdefault(name, Sample(name, text, ending, verdict))
    if sample.verdict != verdict:
        raise row.fault(f"verdict {verdict}, but {sample.places[0]} has {sample.verdict} for the same completion")
    sample.places.append(row.place)


def _answered(mine: Asked, given: tuple[str, str] | None) -> Asked:
    """The problem with its reference: the given one, or that of a right trace."""
    answer = given[0] if given else _answer_of_right(mine)
    if answer is None:
        place = next(iter(mine.samples.values())).places[0]
        raise UserError(
            f"{place}: no reference answer, and no right completion of this prompt to take one from: rollouts could "
            "not be judged; add a column answer"
        )
    body: dict[str, Any] = {name: getattr(mine.problem, name) for name in ("id", "statement", "split", "source")}
    return Asked(Problem(answer=answer, **body), mine.samples)


def _answer_of_right(mine: Asked) -> str | None:
    """The final answer of the first right completion that has one."""
    for sample in mine.samples.values():
        found = next(candidates(sample.text)) if sample.verdict == "correct" else None
        if isinstance(found, Extraction):
            return found.answer
    return None
