"""Training sets for benchmarks.training: pairs of the grade-school world, and made-up ones as long as GSM8K's."""

from __future__ import annotations

import random
from pathlib import Path

from app.records import Example, PreferencePair

LONG_VOCABULARY = 8192


def long_model(folder: Path) -> None:
    """A random Llama of 8M parameters with a vocabulary of 8,192, for sequences as long as GSM8K's."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {"<pad>": 0, "<eos>": 1, "<unk>": 2, **{f"w{i}": i for i in range(3, LONG_VOCABULARY)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=LONG_VOCABULARY,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        eos_token_id=1,
        pad_token_id=0,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def _pair(index: int, problem: str, prompt: list[int], prefix: list[int], branches: list[list[int]]) -> PreferencePair:
    chosen, rejected = branches
    whole = prompt + prefix
    return PreferencePair(f"b{index}", problem, "c", "r", whole, len(prefix), chosen, rejected, "", "", "")


def long_pairs(count: int, a_problem: int, steps: int = 5, one_pit: bool = False) -> list[PreferencePair]:
    """Step pairs of made-up tokens with the lengths of GSM8K in a chat template.

    A prompt has 60 to 160 tokens, a solution `steps` steps of 15 to 40; the pit of a pair is a random step, and both
    branches go on from there to the end. `a_problem` pairs share a problem, each with a pit in one and the same
    solution, or with `one_pit` all at the same step of it.
    """
    rng = random.Random(0)

    def step() -> list[int]:
        return [rng.randrange(3, LONG_VOCABULARY) for _ in range(rng.randint(15, 40))]

    pairs: list[PreferencePair] = []
    while len(pairs) < count:
        prompt = [rng.randrange(3, LONG_VOCABULARY) for _ in range(rng.randint(60, 160))]
        solution = [step() for _ in range(steps)]
        pits = [rng.randrange(1, steps) for _ in range(a_problem)]
        for pit in [pits[0]] * a_problem if one_pit else pits:
            branches = [[t for _ in range(steps - pit) for t in step()] + [1] for _ in range(2)]
            prefix = [t for s in solution[:pit] for t in s]
            pairs.append(_pair(len(pairs), f"p{len(pairs) // a_problem}", prompt, prefix, branches))
    return pairs[:count]


def world_rows(method: str, count: int, a_problem: int = 1) -> list[Example] | list[PreferencePair]:
    """SFT examples, or pairs of a teacher's solution and one with a wrong number from some line on.

    For `dpo` the pair is two whole solutions, for `step_dpo` what follows the last shared line. `a_problem` pairs share
    a problem and its good solution, each with a wrong one of its own.
    """
    from app.policy import WORLD_MODEL
    from app.problems.world import World
    from app.recipe import RenderingSettings
    from app.rendering import Renderer
    from tests.teacher import teacher_solution

    renderer, world, rng = Renderer(str(WORLD_MODEL), RenderingSettings()), World(), random.Random(0)
    examples: list[Example] = []
    pairs: list[PreferencePair] = []
    for index in range(count):
        problem = world.problem(0, index // a_problem)
        prompt = renderer.prompt_ids(problem.statement)
        good = teacher_solution(problem, 2 * (index // a_problem))
        if method == "sft":
            completion = renderer.completion_ids(good)
            examples.append(Example(f"b{index}", problem.id, None, prompt, completion, problem.statement, good))
            continue
        lines, other = good.split("\n"), teacher_solution(problem, 2 * index + 1).split("\n")
        pit = rng.randrange(len(lines) - 1)
        bad = [*lines[:pit], *_spoiled(other[pit:] or lines[pit:], rng)]
        shared = "".join(line + "\n" for line in lines[:pit]) if method == "step_dpo" else ""
        branches = [renderer.completion_ids("\n".join(text)[len(shared) :]) for text in (lines, bad)]
        prefix = renderer.completion_ids(shared)[:-1]
        pairs.append(_pair(index, problem.id, prompt, prefix, branches))
    return examples if method == "sft" else pairs


def _spoiled(lines: list[str], rng: random.Random) -> list[str]:
    """The lines with another result in the first and in the answer."""
    wrong = str(rng.randrange(1, 50))
    out = list(lines)
    out[0] = f"{out[0].rpartition(' ')[0]} {wrong}"
    out[-1] = f"#### {wrong}"
    return out
