"""Tree, packed, padded and one by one give the same log-probabilities and gradients, in float32, to 1e-5."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from app.errors import UserError
from app.training import forward as forward_module
from app.training.corpus import Corpus, load
from app.training.forward import TokenLogProbs, check_head, tensors
from app.training.losses import per_sequence
from tests.training.conftest import pair, write_rows


def model_at(folder: Path) -> TokenLogProbs:
    from transformers import AutoModelForCausalLM

    return TokenLogProbs(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Step pairs: long prompts, branches that start alike, one branch that is the start of the other."""
    rng = random.Random(1)
    rows = [pair(i, rng) for i in range(4)]
    rows.append(pair(4, rng, chosen_token_ids=[9, 8, 7, 1], rejected_token_ids=[9, 8, 5, 4, 1]))
    rows.append(pair(5, rng, chosen_token_ids=[9, 8], rejected_token_ids=[9, 8, 5]))
    rows.append(pair(6, rng, problem_id="p4", prompt_token_ids=[*rows[4].prompt_token_ids, 9, 8]))  # a later pit of p4
    return load(write_rows(tmp_path, "dpo", rows), "dpo", 64)


def result(model: TokenLogProbs, corpus: Corpus, **how: object) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Sequence log-probabilities (14,) and the gradient of a loss that treats all of them differently."""
    model.zero_grad()
    rows = corpus.rows(range(len(corpus)), **how)  # type: ignore[arg-type]
    logps = model(**tensors(rows, torch.device("cpu")))
    sums = per_sequence(logps, torch.from_numpy(rows.owners), rows.sequences)
    (sums * torch.linspace(-1, 1, len(sums))).mean().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return sums.detach(), gradients


def one_by_one(model: TokenLogProbs, corpus: Corpus) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The same by the model's own logits, one sequence at a time: nothing of ours but the loss."""
    model.zero_grad()
    sums = []
    for i in range(len(corpus)):
        for branch in corpus.branches:
            ids = torch.from_numpy(np.concatenate([corpus.prompts[i], branch[i]]).astype(np.int64))
            logits = model.model(input_ids=ids[None]).logits[0, :-1]
            each = torch.log_softmax(logits, -1).gather(1, ids[1:, None])[:, 0]
            sums.append(each[len(corpus.prompts[i]) - 1 :].sum())
    stacked = torch.stack(sums)
    (stacked * torch.linspace(-1, 1, len(sums))).mean().backward()
    return stacked.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(
    "how",
    [{}, {"share": 0}, {"budget": 80}, {"share": 0, "budget": 50}],
    ids=["tree", "padded", "packed-trees", "packed"],
)
def test_every_form_equals_one_by_one(
    tiny_model: Path, corpus: Corpus, attention: str, how: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward_module, "SHORT", 1000 if attention == "eager" else 0)
    model = model_at(tiny_model)
    wanted, wanted_gradients = one_by_one(model, corpus)
    got, gradients = result(model, corpus, **how)
    assert torch.allclose(got, wanted, atol=1e-5, rtol=1e-5)
    assert gradients.keys() == wanted_gradients.keys()
    for name, value in wanted_gradients.items():
        assert torch.allclose(gradients[name], value, atol=1e-5, rtol=1e-4), name


def test_chunked_logits_equal_whole_ones(tiny_model: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_at(tiny_model)
    wanted, wanted_gradients = result(model, corpus)
    monkeypatch.setattr(forward_module, "LOGITS", 64 * 7)  # seven targets at a time
    got, gradients = result(model, corpus)
    assert torch.allclose(got, wanted, atol=1e-5)
    for name, value in wanted_gradients.items():
        assert torch.allclose(gradients[name], value, atol=1e-5, rtol=1e-4), name


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
