"""Tokenizers as their files have them: one that transformers takes for another kind is read right all the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from app.errors import UserError
from app.policy import WORLD_MODEL
from app.tokenizer import PROBE, load_tokenizer


@pytest.fixture
def twin(tmp_path: Path) -> Path:
    """As deepseek-math has it: a byte-level BPE whose configuration names a Llama class, and a start token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    special = ["<begin>", "<end>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    made.train_from_iterator([PROBE] * 20, trainer)
    made.save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<begin>", "eos_token": "<end>"}
    config |= {"add_bos_token": True, "add_eos_token": False, "model_max_length": 4096, "chat_template": "{{ 1 }}"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return tmp_path


def raw_ids(folder: Path) -> list[int]:
    from tokenizers import Tokenizer

    ids: list[int] = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(PROBE, add_special_tokens=False).ids
    return ids


def test_a_byte_level_tokenizer_under_a_llama_name_keeps_its_tokens(twin: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(str(twin)).encode(PROBE, add_special_tokens=False) != raw_ids(twin)
    found: Any = load_tokenizer(str(twin))
    assert found.encode(PROBE, add_special_tokens=False) == raw_ids(twin)
    assert found.encode(PROBE) == [found.bos_token_id, *raw_ids(twin)]
    assert found.decode(found.encode(PROBE), skip_special_tokens=True) == PROBE
    assert (found.bos_token, found.eos_token, found.chat_template) == ("<begin>", "<end>", "{{ 1 }}")
    found.save_pretrained(tmp_path / "exported")
    again = AutoTokenizer.from_pretrained(str(tmp_path / "exported"))  # by anyone, as vLLM and transformers do
    assert again.encode(PROBE) == found.encode(PROBE)
    assert again.eos_token_id == found.eos_token_id


def test_a_file_that_loses_text_is_refused(twin: Path) -> None:
    body = json.loads((twin / "tokenizer.json").read_text())
    body["decoder"] = None
    (twin / "tokenizer.json").write_text(json.dumps(body))
    with pytest.raises(UserError, match=f"{re.escape(str(twin))}: transformers reads its tokenizer.json otherwise"):
        load_tokenizer(str(twin))


def test_others_are_left_as_transformers_has_them() -> None:
    from transformers import AutoTokenizer

    found = load_tokenizer(str(WORLD_MODEL))
    assert type(found) is type(AutoTokenizer.from_pretrained(str(WORLD_MODEL)))
    assert found.encode("Tom has 12 apples.\n") == AutoTokenizer.from_pretrained(str(WORLD_MODEL)).encode(
        "Tom has 12 apples.\n"
    )
