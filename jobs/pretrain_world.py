"""Make the tiny base model of the grade-school world again: its tokenizer and its weights.

    python -m jobs.pretrain_world --out FOLDER [--steps 5000] [--seed 0]

The base knows one-operation arithmetic by heart (bare equations) and the format (short stories of 1 to 4 events), but
has seen no longer story. Plain PyTorch on one thread, without Ray: the folder it writes is shipped in
app/problems/world_model, so nobody has to run this. One seed gives one model on one machine; docs/world.md has the
figures.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from app.problems import world_text
from app.problems.world import Event, Teacher, World

SPECIAL = ("<pad>", "<eos>", "<unk>")
WORLD = World(operations=(1, 4))
TEACHER = Teacher(careful=0.5, merge=(0.2, 0.5, 0.3))
EQUATION_SHARE = 0.25  # of a batch's rows
EQUATIONS_PER_ROW = 12
IGNORED = -100


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a piece of the world; decoding is concatenation, so it is exact, also token by token."""
    vocabulary = {piece: k for k, piece in enumerate([*SPECIAL, *world_text.vocabulary()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(world_text.PIECE), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A Llama of about 0.9M parameters with fresh weights."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM._from_config(config, attn_implementation="eager")


def equation(rng: random.Random) -> str:
    """A bare one-operation equation with numbers of the world."""
    while True:
        total = rng.randint(1, world_text.NUMBERS - 1)
        op = rng.choices("+-*/", (0.4, 0.4, 0.1, 0.1))[0]
        event = Event(op, rng.randint(*WORLD.amounts) if op in "+-" else rng.choice((2, 3)) if op == "*" else 2)
        result = event.apply(total)
        if 1 <= result < world_text.NUMBERS and (op != "/" or total % 2 == 0):
            return f"{total} {op} {event.amount} = {result}"


def rows_of(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[tuple[list[int], list[int]]]:
    """Fresh (tokens, labels) for ever. Labels: solutions with their end, and the results of bare equations.

    Stories come from the training split only, so that no validation or test story was ever seen.
    """
    rng = random.Random(f"pretrain-{seed}")
    equals, end, index = tokenizer.convert_tokens_to_ids(" = "), tokenizer.eos_token_id, 0
    while True:
        if rng.random() < EQUATION_SHARE:
            tokens = tokenizer.encode("\n".join(equation(rng) for _ in range(EQUATIONS_PER_ROW)))
            yield tokens, [b if a == equals else IGNORED for a, b in zip([end, *tokens], tokens, strict=False)]
            continue
        problem = WORLD.problem(seed, index, TEACHER)
        index += 1
        if problem.split == "train":
            prompt = tokenizer.encode(problem.statement + "\n")
            completion = [*tokenizer.encode(problem.solution), end]
            yield prompt + completion, [IGNORED] * len(prompt) + completion


def batches(tokenizer: PreTrainedTokenizerFast, seed: int, rows: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(tokens, labels), each (rows, length), for ever; rows of like length share a batch, which spares padding."""
    source, rng = rows_of(tokenizer, seed), random.Random(f"order-{seed}")
    while True:
        pool = sorted(itertools.islice(source, rows * 8), key=lambda row: len(row[0]))
        for k in rng.sample(range(8), 8):
            batch = pool[k * rows : (k + 1) * rows]
            length = len(batch[-1][0])
            tokens = [row + [tokenizer.pad_token_id] * (length - len(row)) for row, _ in batch]
            labels = [row + [IGNORED] * (length - len(row)) for _, row in batch]
            yield torch.tensor(tokens), torch.tensor(labels)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 100 steps, then a cosine to a twentieth of the peak."""
    progress = max(0.0, (step - 100) / max(1, steps - 100))
    return peak * min(1.0, (step + 1) / 100) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))


def pretrain(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    steps: int,
    seed: int,
    rows: int = 64,
    peak: float = 2e-3,
) -> None:
    """Train in place: AdamW, loss on labelled tokens, gradients clipped at 1."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.95), weight_decay=0.01)
    began = time.monotonic()
    for step, (tokens, labels) in zip(range(steps), batches(tokenizer, seed, rows), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        wanted = labels[:, 1:] != IGNORED
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model.model(tokens, use_cache=False).last_hidden_state[:, :-1]  # right padding: no mask needed
            logits = model.lm_head(hidden[wanted])
        loss = torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][wanted])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step}/{steps}  loss {loss.item():.4f}  {time.monotonic() - began:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for config, tokenizer and weights")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, arguments.seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens")
    pretrain(model, tokenizer, arguments.steps, arguments.seed)
    tokenizer.save_pretrained(arguments.out)
    model.bfloat16().save_pretrained(arguments.out)
    (arguments.out / "generation_config.json").unlink()  # its defaults belong to whoever samples


if __name__ == "__main__":
    main()
