"""Stage synthesis: a capable model writes new problems from seed problems and solves them; duplicates are dropped."""

from __future__ import annotations

from collections.abc import Sequence

from app.errors import UserError
from app.policy import Policy, base_policy
from app.problems.filtering import keep_new
from app.problems.select import problems_of, write_problems
from app.problems.settings import OpenAIWriter, SynthesisSettings, VllmWriter
from app.problems.writers import from_world, write_all
from app.recipe import Recipe, RenderingSettings
from app.records import Problem, chunked
from app.rendering import Renderer
from app.sampling.backends import create
from app.sampling.engine import PromptTooLong, Request
from app.sampling.openai import OpenAIEngine
from app.shard_stats import Receipt
from app.shardmap import Pool, complete
from app.stage import StageContext
from app.store import Output

REQUESTS_PER_SHARD = 32
CANDIDATES = "candidates"  # kind of the tables that hold what was written, before duplicates are dropped


class WritingWorker:
    """Asks the writer for one shard of problems at a time and writes them as candidates."""

    def __init__(self, recipe: Recipe, problems: Output, output: Output) -> None:
        assert recipe.synthesis
        self.settings, self.seed, self.output = recipe.synthesis, recipe.seed, output
        self.seeds = problems_of(problems, "train")
        self.shards = shards_of(self.settings)
        writer = self.settings.writer
        if isinstance(writer, VllmWriter):
            self.model: VllmModel | EndpointModel = VllmModel(recipe, writer)
        elif isinstance(writer, OpenAIWriter):
            self.model = EndpointModel(recipe, writer)
        else:
            raise UserError(f"synthesis.writer.kind is {writer.kind}: nothing to ask; use vllm or openai")

    async def process(self, index: int) -> Receipt:
        problems, counts = await write_all(self.model.answer, self.seeds, self.shards[index], self.settings, self.seed)
        return self.output.write_shard(index, Problem.table(problems), counts, kind=CANDIDATES)


class VllmModel:
    """A writer served by this actor's own vLLM engine, through its chat template where it has one."""

    def __init__(self, recipe: Recipe, writer: VllmWriter) -> None:
        assert recipe.synthesis
        weights, self.settings = writer.weights, recipe.synthesis
        path = base_policy(weights).path
        chat = RenderingSettings(template="chat", prompt="{statement}")
        self.renderer = Renderer(path, chat, weights.revision, weights.trust_remote_code)
        policy, place = Policy(path, path), recipe.placement.engines("writer")
        self.engine = create(policy, place, weights.revision, weights.trust_remote_code)

    async def answer(self, text: str, name: str, seed: int) -> str | None:
        prompt = tuple(self.renderer.prompt_ids(text))
        request = Request(name, prompt, seed, self.settings.max_tokens, self.settings.temperature)
        try:
            return (await self.engine.generate(request)).text
        except PromptTooLong:
            return None


class EndpointModel:
    """A writer behind an OpenAI-compatible endpoint; its own chat template applies there."""

    def __init__(self, recipe: Recipe, writer: OpenAIWriter) -> None:
        assert recipe.synthesis
        self.settings = recipe.synthesis
        self.engine = OpenAIEngine(writer.base_url, writer.model, writer.api_key_env, writer.concurrency)

    async def answer(self, text: str, _name: str, seed: int) -> str | None:
        messages = [{"role": "user", "content": text}]
        try:
            done = await self.engine.chat(messages, seed, self.settings.max_tokens, self.settings.temperature)
        except PromptTooLong:
            return None
        return done.text


def shards_of(settings: SynthesisSettings) -> list[Sequence[int]]:
    """Request numbers of each shard."""
    return chunked(range(settings.count), REQUESTS_PER_SHARD)


def run(context: StageContext) -> None:
    """Write candidates, drop duplicates of seeds, evaluation problems and each other, write the rest as shard 0."""
    settings = context.recipe.synthesis
    assert settings
    source = context.inputs["problems"]
    everything = Problem.from_table(source.read())
    seeds = sorted((p for p in everything if p.split == "train"), key=lambda p: p.id)
    evaluation = [p for p in everything if p.split != "train"]
    candidates, written = _candidates(context, settings)
    kept, dropped = keep_new(candidates, seeds, evaluation, settings.near_duplicate)
    if settings.keep_seeds:
        kept = [p for p in seeds if p.solution] + kept
    counts = {**written, **dropped, "problems": float(len(kept))}
    for reason, count in counts.items():
        if reason.startswith("dropped"):
            context.progress.say(f"{count:,.0f} {reason}")
    write_problems(context.output, kept, counts)


def _candidates(context: StageContext, settings: SynthesisSettings) -> tuple[list[Problem], dict[str, float]]:
    recipe, output = context.recipe, context.output
    source = recipe.problems.source
    if settings.writer.kind == "world":
        if source.kind != "world":
            raise UserError("synthesis.writer.kind is world, but the problems are not the world's; use vllm or openai")
        problems = from_world(source, settings.writer, settings.count, recipe.seed)
        return problems, {"asked": float(settings.count)}
    shards = len(shards_of(settings))
    place = recipe.placement.engines("writer")
    pool = Pool.of(place, recipe.placement.named("writer"), place.gpus, place.concurrent_shards)
    if isinstance(settings.writer, OpenAIWriter):
        pool = Pool(1, 0, concurrency=place.concurrent_shards)
    arguments = (recipe, context.inputs["problems"], output)
    counts = complete(context, WritingWorker, arguments, shards, pool, CANDIDATES).counts
    return [p for table in output.tables(kind=CANDIDATES) for p in Problem.from_table(table)], counts
