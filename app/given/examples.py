"""Training rows that others wrote, as records: TRL's columns, text or conversational, or our own with token ids.

    SFT, RFT           prompt, completion          or messages, the last of the assistant
    DPO, per-step DPO  prompt, chosen, rejected    or chosen and rejected alone, whole conversations
                       prefix: shared steps behind the prompt, where they are not part of it
    KTO and the like   prompt, completion, label

Text stands as it is; messages are rendered by the model's chat template. A completion gets the end token, as in TRL's
trainers. Rows with token ids (pairs.parquet, a data set stage) are taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from app.errors import UserError
from app.given.rows import Message, Row
from app.methods import Method
from app.records import Example, LabelledExample, PreferencePair, Record, digest
from app.rendering import Renderer
from app.training.settings import PreferenceSettings

IDS = "prompt_token_ids"


def record_of(method: Method) -> type[Record]:
    """What rows of a method are. Raises UserError for one that trains nothing."""
    if method.training is None:
        raise UserError(f"{method.name} trains nothing: give a method that trains, such as sft, rft, dpo or step_dpo")
    if issubclass(method.training, PreferenceSettings):
        return PreferencePair
    return LabelledExample if method.training.labels else Example


def tables(rows: Iterator[Row], kind: type[Record], renderer: Renderer, size: int = 10_000) -> Iterator[pa.Table]:
    """The rows as tables of records, at most `size` in each. Raises UserError, naming the row, where one is not so."""
    reader = _Reader(renderer)
    read = {Example: reader.example, LabelledExample: reader.labelled, PreferencePair: reader.pair}[kind]
    some: list[Any] = []
    for number, row in enumerate(rows):
        some.append(_tokens(row, kind, number) if IDS in row.values else read(row, number))
        if len(some) == size:
            yield kind.table(some)
            some = []
    if some:
        yield kind.table(some)


def _tokens(row: Row, kind: type[Record], number: int) -> Any:
    """A row that brings its token ids; what only people and reports read of it may be left out."""
    values: Mapping[str, Any] = row.values
    missing = [
        f.name for f in kind.schema if f.name.endswith("_token_ids") and not isinstance(values.get(f.name), list)
    ]
    if missing:
        raise row.fault(f"no token ids in column {missing[0]!r}, though {IDS!r} has some; give all or only texts")
    body: dict[str, Any] = {"id": f"g-{number}", "problem_id": f"g-{digest(values[IDS])}", "label": True}
    body |= dict.fromkeys(
        ("trace_id", "chosen_trace", "rejected_trace", "prompt", "completion", "chosen", "rejected"), ""
    )
    body |= {"prefix_tokens": 0}
    body |= {name: value for name, value in values.items() if value is not None}
    names = [field.name for field in kind.schema]
    return kind(**{name: body[name] for name in names if name in body})


@dataclass(frozen=True)
class _Reader:
    renderer: Renderer

    def example(self, row: Row, number: int) -> Example:
        prompt, ids, completion = self._single(row)
        text, tokens = self._completion(completion)
        return Example(f"g-{number}", _problem(prompt), None, ids, tokens, prompt, text)

    def labelled(self, row: Row, number: int) -> LabelledExample:
        label = row.values.get("label")
        if not isinstance(label, bool):
            raise row.fault(f"column 'label' must be true or false, found {label!r:.60}")
        prompt, ids, completion = self._single(row)
        text, tokens = self._completion(completion)
        return LabelledExample(f"g-{number}", _problem(prompt), "", ids, tokens, prompt, text, label)

    def pair(self, row: Row, number: int) -> PreferencePair:
        sides = {side: row.messages(side) for side in ("chosen", "rejected")}
        if "prompt" not in row.values:
            shared, sides = _parted(row, sides)
            prompt, ids = self._chat(row, shared)
        else:
            prompt, ids = self._prompt(row)
        prefix = row.text("prefix") if row.values.get("prefix") else ""
        steps = self.renderer.encode(prefix, templated=True) if prefix else []
        texts = {side: _answer(row, side, messages) for side, messages in sides.items()}
        made = {side: self._completion(text) for side, text in texts.items()}
        if texts["chosen"] == texts["rejected"]:
            raise row.fault("chosen and rejected are the same; leave the row out")
        return PreferencePair(
            id=f"g-{number}",
            problem_id=_problem(prompt),
            chosen_trace="",
            rejected_trace="",
            prompt_token_ids=[*ids, *steps],
            prefix_tokens=len(steps),
            chosen_token_ids=made["chosen"][1],
            rejected_token_ids=made["rejected"][1],
            prompt=prompt + prefix,
            chosen=made["chosen"][0],
            rejected=made["rejected"][0],
        )

    def _single(self, row: Row) -> tuple[str, list[int], str]:
        """Prompt, its token ids, and the completion's text."""
        if "prompt" not in row.values and (messages := row.messages("messages")):
            if len(messages) < 2 or messages[-1]["role"] != "assistant":
                raise row.fault("column 'messages' must end with a message of the assistant, after others")
            return *self._chat(row, messages[:-1]), messages[-1]["content"]
        return *self._prompt(row), _answer(row, "completion", row.messages("completion"))

    def _prompt(self, row: Row) -> tuple[str, list[int]]:
        messages = row.messages("prompt")
        if messages:
            return self._chat(row, messages)
        text = row.text("prompt")
        return text, self.renderer.encode(text, templated=False)

    def _chat(self, row: Row, messages: list[Message]) -> tuple[str, list[int]]:
        if not self.renderer.tokenizer.chat_template:
            raise row.fault("holds messages, but the model's tokenizer has no chat template; give texts")
        text = self.renderer.chat(messages)
        return text, self.renderer.encode(text, templated=True)

    def _completion(self, text: str) -> tuple[str, list[int]]:
        return text, self.renderer.completion_ids(text)


def _answer(row: Row, column: str, messages: list[Message] | None) -> str:
    if messages is None:
        return row.text(column)
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise row.fault(f"column {column!r}: expected one message of the assistant")
    return messages[0]["content"]


def _parted(
    row: Row, sides: Mapping[str, list[Message] | None]
) -> tuple[list[Message], dict[str, list[Message] | None]]:
    """The shared beginning of two conversations, and what is left of each."""
    chosen, rejected = sides["chosen"], sides["rejected"]
    if chosen is None or rejected is None:
        raise row.fault("no column 'prompt', and chosen and rejected are not both conversations, which would hold it")
    shared = next(
        (i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), min(len(chosen), len(rejected))
    )
    if not shared:
        raise row.fault("chosen and rejected share no first message; add a column prompt")
    return chosen[:shared], {"chosen": chosen[shared:], "rejected": rejected[shared:]}


def _problem(prompt: str) -> str:
    return "g-" + digest(prompt)
