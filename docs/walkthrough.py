"""The whole method in one process, to be read from top to bottom: base -> SFT -> samples -> verdicts -> RFT -> credit
-> per-step DPO, on the grade-school world. No Ray, vLLM or DeepSpeed; the functions are those that the stages call.

    python docs/walkthrough.py            # minutes on one core
    python docs/walkthrough.py --tiny     # the same with few problems and steps: to see it run, not what it gains

The stages do the same in parallel, from file to file, so that they can be killed and go on: app/*/stage.py.
"""

import argparse
import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, logging

from app.credit.problem import Credit, credit_problem
from app.credit.rollouts import Sampler
from app.credit.settings import CreditSettings
from app.datasets.pairs import Texts, pits, step_pairs
from app.datasets.selection import own_example, right_traces, teacher_example
from app.datasets.settings import StepDpoSettings
from app.evaluation.metrics import accuracy
from app.judged import Judged
from app.policy import WORLD_MODEL
from app.problems.world import Teacher, make_problems
from app.records import Example, PreferencePair, Problem, Verdict, chunked
from app.rendering import Renderer
from app.sampling.engine import Completion, Engine, Request, check_fits
from app.sampling.meter import Meter
from app.sampling.requests import sample_n
from app.sampling.settings import SamplingSettings
from app.settings import RenderingSettings
from app.store import Output
from app.tokens import TokenText
from app.training import attention
from app.training.dataset import load
from app.training.forward import TokenLogProbs, batch, sequence_log_probs
from app.training.loop import learning_rate
from app.training.objectives import Batch, objective_of
from app.training.sampler import sampler_for
from app.training.settings import PreferenceSettings, TrainSettings
from app.verification.judge import judge_batch

parser = argparse.ArgumentParser(description="The method on the grade-school world, in one process.")
parser.add_argument("--tiny", action="store_true", help="few problems and steps, about 15 seconds")
TINY = parser.parse_args().tiny
TRAIN, TEST, SAMPLES, BATCH, STEPS, PAIR_STEPS = (50, 40, 4, 16, 40, 16) if TINY else (600, 300, 8, 64, 160, 60)
SEED, CPU, MAX_TOKENS = 0, torch.device("cpu"), 64
Weights = dict[str, torch.Tensor]
logging.disable_progress_bar()
torch.set_num_threads(1)  # a model this small gains little from a second one, and loses much where the core is taken


# -- Problems. "Maya has 12 apples. She buys 7 more. ..." and a teacher's solution, "12 + 7 = 19\n#### 19". The world
# -- draws both from a seed. The teacher is right but hasty: it may do three operations in a line: hard to imitate.

problems = make_problems(SEED, TRAIN, "train", teacher=Teacher(careful=0.4, merge=(0.2, 0.6, 0.2)))
test = make_problems(SEED, TEST, "test")
renderer = Renderer(str(WORLD_MODEL), RenderingSettings())  # problems to token ids; nothing else knows the tokenizer
print(f"{problems[0].statement}\n{problems[0].solution}\n")


# -- A policy is weights. An engine writes with them: many requests at once, each with a seed of its own, so that what
# -- is written depends neither on the order of the requests nor on which of them share a batch.


def model_of(weights: Weights | None) -> Any:
    """The world's model: as it is shipped, or with other weights."""
    model = AutoModelForCausalLM.from_pretrained(WORLD_MODEL, dtype=torch.float32)
    if weights:
        model.load_state_dict(weights)
    return model


class SimpleEngine(Engine):
    """Collects requests for a moment, then writes up to 256 of them side by side, token by token."""

    def __init__(self, weights: Weights | None) -> None:
        self.model, self.meter = model_of(weights), Meter()
        self.context_length = self.model.config.max_position_embeddings
        self.waiting: list[tuple[Request, asyncio.Future[Completion]]] = []

    async def generate(self, request: Request) -> Completion:
        loop = asyncio.get_running_loop()
        if not self.waiting:
            loop.call_later(0.01, self.write_waiting)
        self.waiting.append((request, loop.create_future()))
        return await self.waiting[-1][1]

    def write_waiting(self) -> None:
        waiting, self.waiting = self.waiting, []
        for part in chunked(waiting, 256):
            for (_, future), done in zip(part, self.write([request for request, _ in part]), strict=True):
                future.set_result(done)

    @torch.no_grad()
    def write(self, requests: Sequence[Request]) -> list[Completion]:
        limits = [check_fits(request, self.context_length) for request in requests]
        tokens, mask = torch.zeros(2, len(requests), max(len(r.prompt_token_ids) for r in requests), dtype=torch.long)
        for row, request in enumerate(requests):  # prompts end together, so that all go on at the same place
            tokens[row, -len(request.prompt_token_ids) :] = torch.tensor(request.prompt_token_ids)
            mask[row, -len(request.prompt_token_ids) :] = 1
        draws = torch.tensor(np.array([np.random.default_rng(r.seed).random(max(limits), "f4") for r in requests]))
        heat = torch.tensor([max(request.temperature, 1e-6) for request in requests])[:, None]
        written, cache = tokens[:, :0], None
        while written.shape[1] < max(limits) and not (written == renderer.end_id).any(1).all():
            places = (mask.cumsum(1) - 1).clamp(0)[:, -tokens.shape[1] :]
            out = self.model(tokens, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True)
            shares = torch.softmax(out.logits[:, -1] / heat, 1).cumsum(1)
            tokens = torch.searchsorted(shares, draws[:, [written.shape[1]]]).clamp(max=shares.shape[1] - 1)
            written, cache = torch.cat([written, tokens], 1), out.past_key_values
            mask = torch.cat([mask, torch.ones_like(tokens)], 1)
        return [completion(ids[:limit]) for ids, limit in zip(written.tolist(), limits, strict=True)]


def completion(ids: list[int]) -> Completion:
    """What was written up to the end token, or all of it where none came."""
    ended = renderer.end_id in ids
    ids = ids[: ids.index(renderer.end_id) + 1] if ended else ids
    return Completion(tuple(ids), renderer.decode(ids), "stop" if ended else "length")


# -- Samples and verdicts. A trace ends "#### 19"; the verdict says whether 19 is the right answer: the binary reward.


async def judge(problem: Problem, texts: list[str], endings: list[str]) -> list[Verdict]:
    return judge_batch([problem.answer] * len(texts), texts, [problem.statement] * len(texts), endings)


async def sample(engine: Engine, problem: Problem, settings: SamplingSettings, policy: str) -> list[Judged]:
    """Traces of a problem with their verdicts."""
    pairs = await sample_n(engine, problem, renderer.prompt_ids(problem.statement), settings, SEED, policy)
    traces = [trace for trace, _ in pairs]
    verdicts = await judge(problem, [trace.text for trace in traces], [trace.finish_reason for trace in traces])
    return [(t, replace(v, trace_id=t.id)) for t, v in zip(traces, verdicts, strict=True)]


async def sample_all(engine: Engine, asked: Iterable[Problem], settings: SamplingSettings, policy: str) -> Any:
    return await asyncio.gather(*(sample(engine, problem, settings, policy) for problem in asked))


def show_accuracy(name: str, weights: Weights | None) -> None:
    """Greedy answers to the test problems: the one number that counts."""
    greedy = SamplingSettings(samples=1, temperature=0, max_tokens=MAX_TOKENS)
    answered = asyncio.run(sample_all(SimpleEngine(weights), test, greedy, name))
    found = accuracy([verdict.outcome for [(_, verdict)] in answered]).estimate
    print(f"{name:13} {found.value:6.1%}  [{found.low:.1%}, {found.high:.1%}]", flush=True)


# -- Training. A data set is a table of token ids; an objective makes a loss of its completions' log-probabilities.
# -- NLL raises them. DPO raises a chosen one against a rejected one, both compared with the weights it starts from.


def train(start: Weights | None, rows: Any, settings: TrainSettings) -> Weights:
    """Weights after `settings.steps` steps from `start`."""
    with TemporaryDirectory() as folder:
        output = Output(folder, "datasets", "rows")
        output.write_shard(0, rows)
        data = load(output, settings.max_length, settings)
    forward, reference = TokenLogProbs(model_of(start)), TokenLogProbs(model_of(start))
    objective, order = objective_of(settings), sampler_for(settings, data.problems, SEED)
    optimizer = torch.optim.AdamW(forward.parameters(), betas=(0.9, 0.95), weight_decay=settings.weight_decay)
    for step in range(order.steps):
        examples = order.step(step)
        lengths, weights = data.completion_lengths(examples), data.weights[examples]
        shape = lengths.shape  # (examples, branches): one completion, or a chosen and a rejected one
        trees = batch(forward, data, examples)  # what sequences of a problem share is computed once
        now = sequence_log_probs(forward, trees, CPU, objective.of_tokens).view(shape)
        with torch.no_grad():
            then = sequence_log_probs(reference, trees, CPU).view(shape) if objective.compares else torch.zeros(shape)
        labels = torch.ones(len(examples), dtype=torch.bool)  # for methods whose examples are right or wrong ones
        seen = Batch(now, then, torch.from_numpy(lengths), torch.from_numpy(weights).float(), labels)
        loss, _ = objective.loss(seen)
        (loss / objective.scale(weights, lengths)).backward()
        torch.nn.utils.clip_grad_norm_(forward.parameters(), settings.max_grad_norm)
        optimizer.param_groups[0]["lr"] = learning_rate(settings, step, order.steps)
        optimizer.step()
        optimizer.zero_grad()
    return forward.model.state_dict()


# -- The method. SFT imitates the teacher, hasty lines and all. Then the policy samples solutions of its own.

torch.manual_seed(SEED)
attention.register()
show_accuracy("base", None)
common: dict[str, Any] = {"batch": BATCH, "warmup": 0.1, "max_length": 256, "precision": "fp32"}
imitate = TrainSettings(steps=STEPS, learning_rate=1e-3, **common)
shown = [teacher_example(p, renderer.prompt, renderer.prompt_ids, renderer.completion_ids) for p in problems]
taught = [example for example in shown if example]
sft = train(None, Example.table(taught), imitate)
show_accuracy("SFT", sft)
engine, asked = SimpleEngine(sft), SamplingSettings(samples=SAMPLES, max_tokens=MAX_TOKENS)
samples: list[list[Judged]] = asyncio.run(sample_all(engine, problems, asked, "sft"))
right = sum(verdict.correct for judged in samples for _, verdict in judged)

# -- RFT: from the base again, on the teacher's solutions and the policy's own right ones, each problem's most diverse.

own = [
    own_example(trace, renderer.prompt(problem.statement), renderer.end_id)
    for problem, judged in zip(problems, samples, strict=True)
    for trace in right_traces(judged, 4, SEED)
]
show_accuracy("RFT", train(None, Example.table(taught + own), imitate))

# -- Credit: "30 + 5 = 35" may be right and "35 - 8 = 26" the step at which a trace was lost. Q of a prefix is the share
# -- of right ones among rollouts from it; the first pit is the step at which Q falls. It asks where it helps most.

search = CreditSettings(search="adaptive", traces_per_problem=3, rollouts=8, max_tokens=MAX_TOKENS)
tokens = TokenText(renderer.decode)
sampler = Sampler(engine, "sft", judge, renderer.decode, search.temperature, search.max_tokens, SEED)


async def credit_all() -> list[Credit]:
    work = zip(problems, samples, strict=True)
    return await asyncio.gather(*(credit_problem(p, s, sampler, tokens, search, True) for p, s in work))


credits = asyncio.run(credit_all())
lost = next(v.trace_id for credit in credits for v in credit.values if v.first_pit)
print(f"\n{right:,} of {TRAIN * SAMPLES:,} samples are right. Of a wrong one, Q after each step (- where not asked):")
for value in (v for credit in credits for v in credit.values if v.trace_id == lost):
    known = "-" if value.q is None else f"{value.q:.2f}"
    print(f"  {known:>5}  {value.text.strip() or '(the problem)'}{'   <- first pit' * value.first_pit}")

# -- Per-step DPO: after the steps before the pit, a right rollout is preferred to what the wrong trace wrote instead.

choose, pairs = StepDpoSettings(chosen="first", rejected="rest", min_q_before=0.25), []
for problem, judged, credit in zip(problems, samples, credits, strict=True):
    found = pits([trace for trace, _ in judged], credit.values, choose.min_q_before)
    rollouts = list(zip(credit.rollouts, credit.verdicts, strict=True))
    texts = Texts(tokens, renderer.end_id, renderer.prompt(problem.statement))
    pairs += step_pairs(found, judged, rollouts, choose, SEED, texts)
print(f"{len(pairs):,} pairs; the first prefers {pairs[0].chosen!r} to {pairs[0].rejected!r}\n")
prefer = PreferenceSettings(steps=PAIR_STEPS, learning_rate=3e-5, rpo_alpha=0.5, **common)
show_accuracy("per-step DPO", train(sft, PreferencePair.table(pairs), prefer))
