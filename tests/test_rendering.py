"""Prompts and token ids, on the shipped tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UserError
from app.policy import WORLD_MODEL
from app.problems.world import make_problems
from app.recipe import RenderingSettings
from app.rendering import Renderer

PROBLEMS = make_problems(0, 30, "train")


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(str(WORLD_MODEL), RenderingSettings())


@given(st.sampled_from(PROBLEMS))
def test_ids_read_back_as_the_text(renderer: Renderer, problem: object) -> None:
    prompt = renderer.prompt(problem.statement)  # type: ignore[attr-defined]
    assert prompt == problem.statement + "\n"  # type: ignore[attr-defined]
    assert renderer.decode(renderer.prompt_ids(problem.statement)) == prompt  # type: ignore[attr-defined]


def test_a_completion_ends_with_the_end_token(renderer: Renderer) -> None:
    ids = renderer.completion_ids("3 + 4 = 7\n#### 7")
    assert ids[-1] == renderer.end_id
    assert renderer.decode(ids) == "3 + 4 = 7\n#### 7"


def test_braces_in_a_statement_are_text() -> None:
    odd = Renderer(str(WORLD_MODEL), RenderingSettings(prompt="Q: {statement}\n", system="S "))
    assert odd.prompt("the set {1, 2} {statement}") == "S Q: the set {1, 2} {statement}\n"


def test_solved_problems_stand_before_the_question(tmp_path: Path) -> None:
    shots = ({"statement": "1 + 1?", "solution": "2\n"}, {"statement": "2 + 2?", "solution": "4"})
    plain = RenderingSettings.model_validate({"prompt": "Q: {statement}\nA: ", "system": "S ", "few_shot": shots})
    assert (
        Renderer(str(WORLD_MODEL), plain).prompt("3 + 3?") == "S Q: 1 + 1?\nA: 2\n\nQ: 2 + 2?\nA: 4\n\nQ: 3 + 3?\nA: "
    )
    folder = Path(shutil.copytree(WORLD_MODEL, tmp_path / "model"))
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if thinking %}<think>{% endif %}"
    (folder / "chat_template.jinja").write_text(template)
    body = {
        "template": "chat",
        "prompt": "{statement}",
        "few_shot": shots[1:],
        "template_arguments": {"thinking": True},
    }
    told = Renderer(str(folder), RenderingSettings.model_validate(body)).prompt("3 + 3?")
    assert told == "<user>2 + 2?<assistant>4<user>3 + 3?<think>"


def test_chat_needs_a_template() -> None:
    with pytest.raises(UserError, match="the tokenizer has no chat template; use plain"):
        Renderer(str(WORLD_MODEL), RenderingSettings(template="chat"))


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(WORLD_MODEL, tmp_path / "model"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("eos_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="names no end token"):
        Renderer(str(folder), RenderingSettings())


def test_a_chat_template_writes_its_own_special_tokens(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(WORLD_MODEL, tmp_path / "model"))
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}A: {% endif %}"
    )
    (folder / "chat_template.jinja").write_text(template)
    chat = Renderer(str(folder), RenderingSettings(template="chat", prompt="{statement}", system="Be brief."))
    assert chat.prompt("How many?") == "system: Be brief.\nuser: How many?\nA: "
