"""A tiny random Llama with a word tokenizer, made-up data sets, and stage contexts around them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.progress import Progress
from app.recipe import Recipe
from app.records import Example, LabelledExample, PreferencePair
from app.stage import Stage, StageContext
from app.store import Output

VOCABULARY, END = 64, 1


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a two-layer Llama of random float32 weights and its tokenizer."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def save_tiny_model(folder: Path, **changes: Any) -> Path:
    """Write that folder, its configuration with changes."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.set_num_threads(1)  # several threads on busy cores wait for each other far longer than they compute
    words = {"<pad>": 0, "<eos>": 1, "<unk>": 2, **{f"w{i}": i for i in range(3, VOCABULARY)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    body: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
        "initializer_range": 0.2,
        "eos_token_id": END,
        "pad_token_id": 0,
        "bos_token_id": None,
    }
    LlamaForCausalLM(LlamaConfig(**(body | changes))).save_pretrained(folder)
    return folder


def tokens(rng: random.Random, low: int, high: int) -> list[int]:
    return [rng.randrange(3, VOCABULARY) for _ in range(rng.randint(low, high))]


def example(index: int, rng: random.Random, **changes: Any) -> Example:
    row = Example(f"e{index}", f"p{index}", None, tokens(rng, 3, 9), [*tokens(rng, 2, 9), END], "", "")
    return _changed(row, changes)


def pair(index: int, rng: random.Random, **changes: Any) -> PreferencePair:
    chosen, rejected = [*tokens(rng, 2, 8), END], [*tokens(rng, 2, 8), END]
    row = PreferencePair(f"e{index}", f"p{index}", "t1", "t2", tokens(rng, 3, 9), 0, chosen, rejected, "", "", "")
    return _changed(row, changes)


def labelled(index: int, rng: random.Random, **changes: Any) -> LabelledExample:
    ids, label = [*tokens(rng, 2, 9), END], index % 3 > 0
    return _changed(LabelledExample(f"e{index}", f"p{index}", "t", tokens(rng, 3, 9), ids, "", "", label), changes)


def _changed(row: Any, changes: dict[str, Any]) -> Any:
    import dataclasses

    return dataclasses.replace(row, **changes)


def rows_of(method: str, count: int, seed: int = 0) -> list[Any]:
    rng = random.Random(seed)
    make = pair if method.endswith("dpo") else example if method in ("sft", "rft") else labelled
    return [make(i, rng) for i in range(count)]


def write_rows(root: Path | str, method: str, rows: list[Any]) -> Output:
    """A finished data set stage."""
    kind: Any = PreferencePair if method.endswith("dpo") else Example if method in ("sft", "rft") else LabelledExample
    output = Output(str(root), f"datasets/{method}", "k")
    output.write_shard(0, kind.table(rows))
    output.finish({})
    return output


MakeContext = Callable[..., StageContext]


@pytest.fixture
def make_context(tiny_model: Path, tmp_path: Path) -> MakeContext:
    """make_context(method, rows=..., root=..., model=..., **settings) -> the context of stage training/METHOD."""

    def make(
        method: str,
        rows: list[Any] | None = None,
        root: Path | None = None,
        model: Path | None = None,
        **settings: Any,
    ) -> StageContext:
        return context_of(model or tiny_model, method, root or tmp_path, rows, **settings)

    return make


def context_of(
    model: Path,
    method: str,
    root: Path | str,
    rows: list[Any] | None = None,
    placement: Any = None,
    evaluator: str | None = None,
    **settings: Any,
) -> StageContext:
    """The context of stage training/METHOD under `root`, over a data set of `rows` or of 24 random ones."""
    from app.training import launch

    base: dict[str, Any] = {"batch": 8, "micro_batch": 4, "learning_rate": 5e-3, "max_length": 64, "precision": "fp32"}
    if "micro_batch_tokens" in settings:
        del base["micro_batch"]
    body = {**base, **({} if {"epochs", "steps"} & set(settings) else {"epochs": 1}), **settings}
    recipe = Recipe.model_validate(
        {
            "name": "test",
            "model": {"path": str(model)},
            "problems": {"source": {"kind": "world"}, "train": 1, "validation": 1, "test": 1},
            "sampling": {},
            "credit": {},
            "runs": {method: {"method": method, **body}},
            "placement": {"training": placement or {}},
        }
    )
    data = write_rows(root, method, rows_of(method, 24) if rows is None else rows)
    options = {
        "settings": recipe.trained()[method].training,
        "method": method,
        "start": recipe.model,
        "reference": None,
    }
    options |= {"evaluator": evaluator}
    stage = Stage(f"training/{method}", launch.run, body, {"dataset": f"datasets/{method}"}, options=options)
    inputs = {"dataset": data, "held_out": Output(str(root), "problems", "k")}
    return StageContext(stage, recipe, inputs, Output(str(root), f"training/{method}", "k"), Progress(stage.name))


@pytest.fixture
def make_trainer(one_rank: None, make_context: MakeContext) -> Callable[..., Any]:
    """make_trainer(method, ...) -> a Trainer in this process; arguments as for make_context."""

    def make(*arguments: Any, **settings: Any) -> Any:
        import torch

        from app.training.dataset import load
        from app.training.launch import make_job
        from app.training.loop import Trainer

        job = make_job(make_context(*arguments, **settings))
        job.output.local().mkdir(parents=True, exist_ok=True)
        return Trainer(job, load(job.dataset, job.settings.max_length, job.settings), torch.device("cpu"))

    return make
