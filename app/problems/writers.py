"""Who writes problems: the world, or a capable model behind vLLM or an OpenAI-compatible endpoint."""

from __future__ import annotations

from app.policy import Policy, base_policy
from app.problems.asking import Ask, Reply, without_reasoning
from app.problems.settings import OpenAIWriter, VllmWriter, WorldSource, WorldWriter
from app.problems.world import Teacher, World, make_problems
from app.recipe import Recipe, RenderingSettings
from app.records import Problem, seed_from
from app.rendering import Renderer
from app.sampling.backends import create
from app.sampling.engine import PromptTooLong, Request
from app.sampling.openai import OpenAIEngine


def from_world(source: WorldSource, writer: WorldWriter, count: int, seed: int) -> list[Problem]:
    """New world problems of the split train with the teacher's solutions, from another stream than the seeds'."""
    world = World(source.operations, source.distractors, source.amounts)
    return make_problems(seed_from("synthesis", seed), count, "train", world, Teacher(writer.careful, writer.merge))


class VllmModel:
    """A writer served by this actor's own engine, through its chat template."""

    def __init__(self, recipe: Recipe, writer: VllmWriter) -> None:
        weights = writer.weights
        path = base_policy(weights).path
        chat = RenderingSettings(template="chat", prompt="{statement}")
        self.renderer = Renderer(
            path, chat, weights.revision, weights.trust_remote_code, dict(writer.template_arguments)
        )
        policy, place = Policy(path, path), recipe.placement.engines("writer")
        self.engine = create(policy, place, weights.revision, weights.trust_remote_code)

    async def answer(self, ask: Ask) -> Reply | None:
        prompt = tuple(self.renderer.prompt_ids(ask.text))
        try:
            done = await self.engine.generate(Request(ask.name, prompt, ask.seed, ask.max_tokens, ask.temperature))
        except PromptTooLong:
            return None
        text = without_reasoning(done.text)
        return Reply(text, done.finish_reason != "stop", len(prompt), len(done.token_ids))


class EndpointModel:
    """A writer behind an OpenAI-compatible endpoint; its own chat template applies there."""

    def __init__(self, writer: OpenAIWriter) -> None:
        self.arguments = dict(writer.template_arguments)
        self.engine = OpenAIEngine(writer.base_url, writer.model, writer.api_key_env, writer.concurrency)

    async def answer(self, ask: Ask) -> Reply | None:
        messages = [{"role": "user", "content": ask.text}]
        limits = (ask.max_tokens, ask.temperature)
        try:
            done = await self.engine.chat(messages, ask.seed, *limits, template_arguments=self.arguments)
        except PromptTooLong:
            return None
        return Reply(without_reasoning(done.text), done.finish_reason != "stop", *done.usage)
