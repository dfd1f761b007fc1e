"""LoRA adapters on the shipped tiny model: several policies, one engine, no rebuild."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from app.errors import UserError
from app.policy import WORLD_MODEL, Policy
from app.recipe import RenderingSettings
from app.rendering import Renderer
from app.sampling.engine import Completion, Request
from app.sampling.scripted import ScriptedEngine
from app.sampling.settings import EnginePlacement
from app.sampling.vllm import VllmEngine, lora_rank

STATEMENT = "Anna has 12 apples . She buys 7 more . How many apples does she have ?"
TOKENS = 12


def adapter(folder: Path, rank: int, seed: int) -> tuple[str, Any]:
    """A LoRA adapter with weights at random, large enough to change what is written; and the model with it merged."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(WORLD_MODEL, dtype=torch.bfloat16)
    targets = ["q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    tuned = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets))
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    tuned.save_pretrained(folder)
    return str(folder), tuned.merge_and_unload()


def is_greedy(model: Any, prompt: list[int], done: Completion) -> bool:
    """Whether each token was a likeliest one for this model, up to the rounding of bfloat16."""
    import torch

    with torch.no_grad():
        scores = model(torch.tensor([[*prompt, *done.token_ids]])).logits[0, len(prompt) - 1 : -1].float()
    chosen = scores.gather(1, torch.tensor(done.token_ids)[:, None])[:, 0]
    return bool((chosen >= scores.max(dim=1).values - 0.25).all())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_adapters_and_their_base_are_served_at_once(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    one, merged_one = adapter(tmp_path / "one", rank=8, seed=1)
    two, merged_two = adapter(tmp_path / "two", rank=4, seed=2)
    base = AutoModelForCausalLM.from_pretrained(WORLD_MODEL)
    prompt = Renderer(str(WORLD_MODEL), RenderingSettings()).prompt_ids(STATEMENT)
    request = Request("r", tuple(prompt), 0, TOKENS, 0.0)

    async def all_three() -> list[Completion]:
        engine = VllmEngine(str(WORLD_MODEL), EnginePlacement(kv_cache_gib=0.25), adapter=one)
        served = [engine, engine.serving(two), engine.serving(None)]
        together = await asyncio.gather(*(each.generate(request) for each in served))
        alone = [await each.generate(request) for each in served]
        assert [done.token_ids for done in together] == [done.token_ids for done in alone]
        assert engine.meter.active == 0
        await engine.close()
        return alone

    found = asyncio.run(all_three())
    assert len({done.token_ids for done in found}) == 3
    for model, done in zip((merged_one, merged_two, base), found, strict=True):
        assert is_greedy(model, prompt, done)
        assert sum(is_greedy(other, prompt, done) for other in (merged_one, merged_two, base)) == 1


def test_a_rank_is_rounded_up_to_what_vllm_offers_or_refused(tmp_path: Path) -> None:
    def rank(r: int) -> int:
        (tmp_path / "adapter_config.json").write_text(json.dumps({"r": r}))
        return lora_rank(str(tmp_path))

    assert [rank(r) for r in (1, 2, 8, 9, 64, 500)] == [1, 8, 8, 16, 64, 512]
    with pytest.raises(UserError, match="a LoRA adapter of rank 600; vLLM serves up to 512"):
        rank(600)


def test_the_stage_serves_an_adapters_policy_on_its_base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from app.sampling import stage
    from tests.sampling.test_stage import context

    asked = []
    monkeypatch.setattr("app.sampling.vllm.VllmEngine", lambda *given: asked.append(given) or ScriptedEngine())
    policy = Policy(str(WORLD_MODEL), "dpo", "/somewhere/adapter")
    stage.EngineWorker(stage.engine_job(context(tmp_path).recipe, policy))
    [(path, _, _, _, adapter)] = asked
    assert (path, adapter) == (str(WORLD_MODEL), "/somewhere/adapter")
