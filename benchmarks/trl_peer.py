"""TRL's trainers as peers: on the same token ids, batches and micro-batches as ours."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.records import Example, PreferencePair

MAX_LENGTH = 1024  # tokens of a pair's sequence
PACKED = 256  # tokens of a row that SFT packs examples into, where nothing else is said


@dataclass(frozen=True)
class Measured:
    """Of the steps after the first."""

    seconds: list[float]  # from the end of one step to the end of the next
    computed: float  # tokens a step, padding included
    examples: float  # in each of its rows: a packed row holds several


def train(
    path: str,
    rows: Sequence[Example] | Sequence[PreferencePair],
    folder: Path,
    clock: Callable[[], float],
    *,
    batch: int,
    micro_batch: int,
    steps: int,
    precision: str,
    gpu: bool = False,
    max_length: int = MAX_LENGTH,
    packed: int = PACKED,
    lora: Any = None,
) -> Measured:
    """Train the model at `path`: SFT with packing, or DPO with the reference computed beforehand.

    Args:
        clock: seconds; called at the end of each step.
        lora: a LoraConfig of peft, where adapters are trained alone.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    ends: list[float] = []
    tokens: list[int] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(clock())

    model = AutoModelForCausalLM.from_pretrained(path, dtype="float32")
    model.get_input_embeddings().register_forward_pre_hook(lambda _, ids: tokens.append(ids[0].numel()))
    common: dict[str, Any] = {
        "output_dir": str(folder / "trl"),
        "use_cpu": not gpu,
        "bf16": precision == "bf16",
        "gradient_checkpointing": False,
        "max_steps": steps,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": batch // micro_batch,
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 1000,
        "disable_tqdm": True,
    }
    how = {"processing_class": AutoTokenizer.from_pretrained(path), "callbacks": [Clock()]}
    how |= {"peft_config": lora} if lora else {}
    if isinstance(rows[0], Example):
        trainer = _sft(model, [r for r in rows if isinstance(r, Example)], common | {"max_length": packed}, how)
    else:
        pairs = [r for r in rows if isinstance(r, PreferencePair)]
        trainer = _dpo(model, pairs, common | {"max_length": max_length}, how)
    before = len(trainer.train_dataset)
    tokens.clear()
    trainer.train()
    seconds = [b - a for a, b in itertools.pairwise(ends)]
    return Measured(seconds, sum(tokens) / len(ends), len(rows) / before)


def _sft(model: Any, rows: list[Example], common: dict[str, Any], how: dict[str, Any]) -> Any:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    whole = [(r.prompt_token_ids, r.completion_token_ids) for r in rows]
    data = {
        "input_ids": [p + c for p, c in whole],
        "completion_mask": [[0] * len(p) + [1] * len(c) for p, c in whole],
    }
    return SFTTrainer(model, args=SFTConfig(**common, packing=True), train_dataset=Dataset.from_dict(data), **how)


def _dpo(model: Any, rows: list[PreferencePair], common: dict[str, Any], how: dict[str, Any]) -> Any:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class Given(DPOTrainer):
        def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
            return dataset

    data = {
        "prompt_ids": [r.prompt_token_ids for r in rows],
        "chosen_ids": [r.chosen_token_ids for r in rows],
        "rejected_ids": [r.rejected_token_ids for r in rows],
    }
    arguments = DPOConfig(**common, precompute_ref_log_probs=True)
    return Given(model, args=arguments, train_dataset=Dataset.from_dict(data), **how)
