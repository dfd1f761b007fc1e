"""A model's tokenizer as its files have it: the one loader for prompts, engines and exports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What a tokenizer that was taken for one of another kind loses: spaces, line ends, digits one by one, LaTeX.
PROBE = "Tom has 12 apples,  and 3.5 kg.\n\nSo \\frac{1}{2}x^2 + 7 = 40\\%:\n  #### 1,234"


def load_tokenizer(path: str, revision: str | None = None, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """AutoTokenizer's, unless that differs from the model's tokenizer.json, which is what the model was trained with.

    transformers 5 builds a tokenizer anew from the class that its configuration names; a byte-level BPE that names a
    Llama class (deepseek-math is one) then loses spaces and line ends without a word (transformers issue 45488). There
    the file itself is taken, with the special tokens and the chat template of the configuration.

    Raises UserError where text does not come back from the file's tokens either.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer
    from transformers.utils import cached_file

    found: Any = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=trust_remote_code)
    if not type(found).__module__.startswith("transformers."):  # the model brings a class of its own
        return found
    names = ("tokenizer.json", "tokenizer_config.json")
    file, config = (cached_file(path, n, revision=revision, _raise_exceptions_for_missing_entries=False) for n in names)
    if file is None:
        return found
    raw = Tokenizer.from_file(file)
    ids = raw.encode(PROBE, add_special_tokens=False).ids
    if found.encode(PROBE, add_special_tokens=False) == ids:
        return found
    if (back := raw.decode(ids)) != PROBE:
        raise UserError(
            f"{path}: transformers reads its tokenizer.json otherwise than it says, and by itself the file does not "
            f"give back what it is given ({PROBE!r} becomes {back!r}): save the tokenizer anew with its own class"
        )
    return _of_file(raw, found, json.loads(Path(config).read_text()) if config else {})


def _of_file(raw: Any, found: Any, config: dict[str, Any]) -> PreTrainedTokenizerBase:
    """tokenizer.json as a tokenizer of transformers, with what its configuration says of special tokens."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    start = found.bos_token
    if config.get("add_bos_token") and raw.encode("1").ids[0] != found.bos_token_id:  # transformers 5 drops it as well
        raw.post_processor = TemplateProcessing(single=f"{start} $A", special_tokens=[(start, found.bos_token_id)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        clean_up_tokenization_spaces=False,
        model_max_length=found.model_max_length,
        **found.special_tokens_map,
    )
    tokenizer.chat_template = found.chat_template
    return tokenizer
