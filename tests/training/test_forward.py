"""Tree, packed, padded and one by one give the same log-probabilities and gradients, in float32, to 1e-5."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from app.errors import UserError
from app.training import attention
from app.training import forward as forward_module
from app.training.dataset import Dataset, load
from app.training.forward import TokenLogProbs, attention_for, batch, check_head, check_tree, tensors
from app.training.losses import per_sequence
from tests.training.conftest import pair, write_rows

attention.register()


def model_at(folder: Path) -> TokenLogProbs:
    from transformers import AutoModelForCausalLM

    return TokenLogProbs(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Step pairs: long prompts, branches that start alike, one branch that is the start of the other."""
    rng = random.Random(1)
    rows = [pair(i, rng) for i in range(4)]
    rows.append(pair(4, rng, chosen_token_ids=[9, 8, 7, 1], rejected_token_ids=[9, 8, 5, 4, 1]))
    rows.append(pair(5, rng, chosen_token_ids=[9, 8], rejected_token_ids=[9, 8, 5]))
    rows.append(pair(6, rng, problem_id="p4", prompt_token_ids=[*rows[4].prompt_token_ids, 9, 8]))  # a later pit of p4
    return load(write_rows(tmp_path, "dpo", rows), 64)


def result(model: TokenLogProbs, dataset: Dataset, **how: object) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Sequence log-probabilities (14,) and the gradient of a loss that treats all of them differently."""
    model.zero_grad()
    rows = dataset.rows(range(len(dataset)), **how)  # type: ignore[arg-type]
    logps = model(**tensors(rows, torch.device("cpu")))
    sums = per_sequence(logps, torch.from_numpy(rows.owners), rows.sequences)
    (sums * torch.linspace(-1, 1, len(sums))).mean().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return sums.detach(), gradients


def one_by_one(model: TokenLogProbs, dataset: Dataset) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The same by the model's own logits, one sequence at a time: nothing of ours but the loss."""
    model.zero_grad()
    if model.attention != "plain":
        model.model.set_attn_implementation("sdpa")
    sums = []
    for i in range(len(dataset)):
        for branch in dataset.branches:
            ids = torch.from_numpy(np.concatenate([dataset.prompts[i], branch[i]]).astype(np.int64))
            logits = model.model(input_ids=ids[None]).logits[0, :-1]
            each = torch.log_softmax(logits, -1).gather(1, ids[1:, None])[:, 0]
            sums.append(each[len(dataset.prompts[i]) - 1 :].sum())
    stacked = torch.stack(sums)
    (stacked * torch.linspace(-1, 1, len(sums))).mean().backward()
    return stacked.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"budget": 0},
        {"budget": 80},
        {"share": False},
        {"share": False, "budget": 0},
        {"share": False, "budget": 50},
    ],
    ids=["trees-in-one-row", "a-tree-a-row", "packed-trees", "sequences-in-one-row", "padded", "packed"],
)
@pytest.mark.parametrize("small", [128, 0], ids=["small-trees-whole", "run-by-run"])
def test_every_form_equals_one_by_one(
    tiny_model: Path, dataset: Dataset, small: int, how: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "SMALL", small)
    model = model_at(tiny_model)
    wanted, wanted_gradients = one_by_one(model, dataset)
    got, gradients = result(model, dataset, **how)
    assert torch.allclose(got, wanted, atol=1e-5, rtol=1e-5)
    same_gradients(gradients, wanted_gradients)


def same_gradients(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.allclose(value, b[name], atol=1e-5, rtol=1e-4), name


def test_gradient_checkpointing_changes_nothing(tiny_model: Path, dataset: Dataset) -> None:
    model = model_at(tiny_model).train()
    wanted, wanted_gradients = result(model, dataset)
    model.model.gradient_checkpointing_enable({"use_reentrant": False})
    got, gradients = result(model, dataset)
    assert torch.allclose(got, wanted, atol=1e-6, rtol=1e-6)
    same_gradients(gradients, wanted_gradients)


def test_chunked_logits_equal_whole_ones(tiny_model: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_at(tiny_model)
    wanted, wanted_gradients = result(model, dataset)
    monkeypatch.setattr(forward_module, "LOGITS", 64 * 7)  # seven targets at a time
    got, gradients = result(model, dataset)
    assert torch.allclose(got, wanted, atol=1e-5)
    same_gradients(gradients, wanted_gradients)


class Largest(TorchDispatchMode):
    """Remembers the most values in a tensor that any operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.values = max(self.values, tensor.numel())
        return out


def test_logits_are_never_held_beyond_a_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted over forward and backward pass: with a large vocabulary no tensor is larger than a chunk of logits."""
    from transformers import LlamaConfig, LlamaForCausalLM

    vocabulary, rng = 20_000, random.Random(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=4,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        tie_word_embeddings=True,
    )
    model = TokenLogProbs(LlamaForCausalLM(config))
    dataset = load(write_rows(tmp_path, "dpo", [pair(i, rng) for i in range(4)]), 64)
    targets = len(dataset.rows(range(4)).targets)
    assert targets > 20

    def most(limit: int) -> int:
        monkeypatch.setattr(forward_module, "LOGITS", limit)
        with Largest() as largest:
            result(model, dataset)
        return largest.values

    assert most(2**40) == targets * vocabulary
    assert most(5 * vocabulary) == 5 * vocabulary


def test_logits_that_predict_nothing_are_not_computed(tiny_model: Path, dataset: Dataset) -> None:
    model, seen = model_at(tiny_model), []
    model.model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    result(model, dataset)
    assert seen == [sum(int(branch.lengths.sum()) for branch in dataset.branches)]


def test_the_last_mlp_sees_only_what_predicts_a_target(tiny_model: Path, dataset: Dataset) -> None:
    model, seen = model_at(tiny_model), []
    layers = model.model.base_model.layers
    for layer in layers:
        layer.mlp.down_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[:-1].numel()))
    rows = dataset.rows(range(len(dataset)))
    result(model, dataset)
    assert seen == [rows.computed, len(set(rows.sources.tolist()))]
    seen.clear()
    model.model.set_attn_implementation("sdpa")
    model.model(input_ids=torch.zeros(2, 5, dtype=torch.long))  # others use the model as it is
    assert seen == [10, 10]


def test_bf16_log_probabilities_follow_float32(tiny_model: Path, dataset: Dataset) -> None:
    model = model_at(tiny_model)
    wanted, wanted_gradients = result(model, dataset)
    got, gradients = result(TokenLogProbs(model.model.bfloat16()), dataset)
    assert torch.allclose(got, wanted, rtol=0.05, atol=0.3)
    for name, value in wanted_gradients.items():
        assert float((gradients[name].float() - value).norm()) < 0.1 * float(value.norm()), name


def test_a_tree_is_checked_against_its_sequences(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_at(tiny_model)
    assert attention_for(model.model, torch.device("cpu"), 64) == ("tree", "")
    assert check_tree(model, torch.device("cpu")) == ""
    # an attention that ignores forks
    plain = attention.blocks
    monkeypatch.setattr(attention, "blocks", lambda ends: plain(np.full(len(ends), len(ends))))
    assert "its log-probabilities come out different" in check_tree(model, torch.device("cpu"))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_gives_the_same_log_probabilities(
    tiny_model: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through transformers, not compiled; there is no backward pass on CPUs."""
    plain = model_at(tiny_model)
    flex = TokenLogProbs(plain.model, "flex")
    rows = batch(flex, dataset, np.arange(len(dataset)))
    assert rows.tokens.shape == (1, 512)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        got = per_sequence(flex(**tensors(rows, torch.device("cpu"))), torch.from_numpy(rows.owners), rows.sequences)
        assert check_tree(flex, torch.device("cpu")) == ""
        whole = attention.block_mask
        monkeypatch.setattr(attention, "block_mask", lambda ends: whole(torch.full_like(ends, len(ends))))
        assert "come out different" in check_tree(flex, torch.device("cpu"))
    wanted, _ = one_by_one(plain, dataset)
    assert torch.allclose(got, wanted, atol=1e-5, rtol=1e-5)


def test_a_model_that_keeps_arguments_from_its_attention_is_noticed(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_at(tiny_model)
    inner = model.model.base_model.forward
    monkeypatch.setattr(model.model.base_model, "forward", lambda blocks=None, **others: inner(**others))
    assert check_tree(model, torch.device("cpu")) == "it does not pass arguments on to its attention"


def mamba() -> torch.nn.Module:
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    return MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2, state_size=4))


def test_a_model_with_a_state_gets_plain_sequences(dataset: Dataset) -> None:
    kind, reason = attention_for(mamba(), torch.device("cpu"), 64)
    assert (kind, reason) == ("plain", "it carries a state from token to token, and a state cannot branch")
    model = TokenLogProbs(mamba(), kind)
    rows = batch(model, dataset, np.arange(len(dataset)))
    assert rows.ends is None
    wanted, wanted_gradients = one_by_one(model, dataset)
    model.zero_grad()
    got, gradients = result(model, dataset, share=False, budget=0)
    assert torch.allclose(got, wanted, atol=1e-4)
    same_gradients(gradients, wanted_gradients)


def test_a_model_that_looks_back_less_than_the_longest_example_gets_plain_sequences() -> None:
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=32,
    )
    model = MistralForCausalLM(config)
    assert attention_for(model, torch.device("cpu"), 32) == ("tree", "")
    kind, reason = attention_for(model, torch.device("cpu"), 33)
    assert (kind, reason) == ("plain", "it looks back 32 tokens only, fewer than max_length 33")


def test_a_model_that_rescales_its_logits_is_refused(tiny_model: Path) -> None:
    model = model_at(tiny_model)
    check_head(model, torch.device("cpu"))
    inner = model.model.forward

    def capped(*arguments: object, **named: object) -> object:
        out = inner(*arguments, **named)
        out.logits = 0.5 * torch.tanh(out.logits)
        return out

    model.model.forward = capped  # type: ignore[method-assign,assignment]
    with pytest.raises(UserError, match="changes its logits"):
        check_head(model, torch.device("cpu"))
