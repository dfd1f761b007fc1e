"""FLOPs a token, against a count by hand of a small Llama."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from app.training.flops import TokenCost, peak


def test_flops_of_a_small_llama(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    attention, mlp, norms, head = 4 * 32 * 32, 3 * 32 * 64, 2 * 32, 64 * 32
    weights = 2 * (attention + mlp + norms) + 32 + head  # the head is tied to the embeddings, and multiplied
    assert TokenCost(model).flops(10, 20) == 10 * (6 * weights + 6 * 2 * 32 * 20)


def test_frozen_weights_have_no_gradient_of_their_own(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    whole = TokenCost(model).flops(1, 0)
    model.requires_grad_(False)
    assert TokenCost(model).flops(1, 0) == pytest.approx(whole * 4 / 6)


def test_embeddings_that_are_only_looked_up_cost_nothing(tiny_model: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    tied = AutoModelForCausalLM.from_pretrained(tiny_model)
    config = AutoConfig.from_pretrained(tiny_model)
    config.tie_word_embeddings = False
    loose = AutoModelForCausalLM.from_config(config)
    assert TokenCost(loose).flops(1, 0) == TokenCost(tied).flops(1, 0)


def test_the_peak_is_what_is_given_or_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert peak(torch.device("cpu"), None) is None
    assert peak(torch.device("cpu"), 0.5) == 5e11
    for name, tera in (("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA A100-SXM4-80GB", 312)):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _, name=name: name)
        assert peak(torch.device("cuda"), None) == tera * 1e12
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "something new")
    assert peak(torch.device("cuda"), None) is None
