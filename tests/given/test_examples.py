"""Training rows that others wrote: TRL's columns, text and messages, and our own."""

from __future__ import annotations

from typing import Any

import pytest

from app.errors import UserError
from app.given.examples import record_of, tables
from app.given.rows import Row
from app.given.train import overrides
from app.methods import find
from app.records import Example, LabelledExample, PreferencePair, Record
from app.rendering import Renderer
from tests.credit import student as world

TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}{{ 'assistant:' }}"
PAIR = {"prompt": "1 + 1?\n", "chosen": "#### 2", "rejected": "#### 3"}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def bot(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.fixture
def renderer() -> Renderer:
    return world.renderer()


@pytest.fixture
def chatty(renderer: Renderer) -> Renderer:
    renderer.tokenizer.chat_template = TEMPLATE
    return renderer


def made(kind: type[Record], renderer: Renderer, *rows: dict[str, Any]) -> list[Any]:
    found = tables((Row(f"p.jsonl:{n}", row) for n, row in enumerate(rows, 1)), kind, renderer)
    return [record for table in found for record in kind.from_table(table)]


def test_texts_of_a_pair_become_tokens_with_the_end_last(renderer: Renderer) -> None:
    [pair] = made(PreferencePair, renderer, PAIR)
    assert pair.prompt_token_ids == renderer.encode("1 + 1?\n", templated=False)
    assert pair.chosen_token_ids == renderer.completion_ids("#### 2")
    assert pair.rejected_token_ids[-1] == renderer.end_id and pair.prefix_tokens == 0


def test_a_prefix_is_shared_steps_behind_the_prompt(renderer: Renderer) -> None:
    [pair] = made(PreferencePair, renderer, PAIR | {"prefix": "1 + 1 = 2\n"})
    steps = renderer.encode("1 + 1 = 2\n", templated=True)
    assert pair.prompt == "1 + 1?\n1 + 1 = 2\n"
    assert pair.prompt_token_ids[-pair.prefix_tokens :] == steps


def test_messages_and_whole_conversations_say_the_same(chatty: Renderer) -> None:
    explicit = {"prompt": [user("1 + 1?")], "chosen": [bot("#### 2")], "rejected": [bot("#### 3")]}
    implicit = {side: [user("1 + 1?"), bot(text)] for side, text in (("chosen", "#### 2"), ("rejected", "#### 3"))}
    one, other = made(PreferencePair, chatty, explicit, implicit)
    assert one.prompt == other.prompt == "user: 1 + 1?\nassistant:"
    assert one.prompt_token_ids == other.prompt_token_ids and one.chosen_token_ids == other.chosen_token_ids


def test_examples_are_a_completion_or_the_last_message(chatty: Renderer) -> None:
    row = {"messages": [user("1 + 1?"), bot("#### 2")]}
    spoken, written = made(Example, chatty, row, {"prompt": "1 + 1?\n", "completion": "#### 2"})
    assert spoken.completion_token_ids == written.completion_token_ids and spoken.prompt != written.prompt
    [labelled] = made(LabelledExample, chatty, {"prompt": "1 + 1?\n", "completion": "#### 2", "label": False})
    assert labelled.label is False


def test_rows_with_token_ids_stay_as_they_are(renderer: Renderer) -> None:
    [pair] = made(PreferencePair, renderer, PAIR | {"prefix": "1 + 1 = 2\n"})
    row = {name: getattr(pair, name) for name in PreferencePair.schema.names}
    assert made(PreferencePair, renderer, row) == [pair]


@pytest.mark.parametrize(
    ("kind", "row", "said"),
    [
        (PreferencePair, {"prompt": "x", "chosen": "a"}, r"p.jsonl:1: no column 'rejected'"),
        (PreferencePair, PAIR | {"rejected": "#### 2"}, r":1: chosen and rejected are the same"),
        (PreferencePair, {"chosen": "a", "rejected": "b"}, r":1: no column 'prompt', and chosen and rejected are not"),
        (PreferencePair, {"prompt_token_ids": [1], "chosen_token_ids": [2]}, r":1: no token ids in column 'rejected_t"),
        (PreferencePair, PAIR | {"prompt": [{"role": "user", "content": "x"}]}, r":1: holds messages, but .* no chat"),
        (Example, {"prompt": "x", "response": "y"}, r":1: no column 'completion'"),
        (
            Example,
            {"messages": [{"role": "user", "content": "x"}]},
            r":1: column 'messages' must end with a message of",
        ),
        (LabelledExample, {"prompt": "x", "completion": "y", "label": 1}, r":1: column 'label' must be true or false"),
    ],
)
def test_a_bad_row_is_named(renderer: Renderer, kind: type[Record], row: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        made(kind, renderer, row)


def test_which_rows_a_method_wants() -> None:
    wanted = {name: record_of(find(name)) for name in ("sft", "rft", "dpo", "step_dpo", "kto")}
    assert wanted == dict(zip(wanted, [Example, Example, PreferencePair, PreferencePair, LabelledExample], strict=True))
    with pytest.raises(UserError, match="prm trains nothing"):
        record_of(find("prm"))


def test_settings_of_the_run_need_no_name_before_them() -> None:
    given = ["beta=0.2", "placement.training.gpus=1"]
    assert overrides("dpo", given) == ["runs.dpo.beta=0.2", "placement.training.gpus=1", "runs.dpo.epochs=1"]
    assert overrides("dpo", ["steps=3"]) == ["runs.dpo.steps=3"]
