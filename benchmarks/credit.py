"""First pits on the grade-school world, against its oracle: accuracy for tokens, by each search.

    python -m benchmarks.credit [--quick] [--json FILE] [--figure FILE.svg]

The shipped base model solves stories somewhat longer than it was trained on, through vLLM. Every search sees the same
traces and, at the same prefix, the same rollouts: what was sampled for one is replayed for the next, and counted for
both. `+ sums` also takes wrong sums written in a step as evidence; without it a search knows final answers only.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from app.credit.problem import Credit, credit_problem, distinct_traces
from app.credit.rollouts import ProblemRollouts, Sampler
from app.credit.settings import CreditSettings
from app.credit.stage import judge_texts
from app.credit.steps import split
from app.credit.values import estimate
from app.datasets.pairs import Texts
from app.datasets.settings import StepDpoSettings
from app.judged import Judged
from app.policy import WORLD_MODEL
from app.problems.world import World as Stories
from app.problems.world import make_problems
from app.recipe import RenderingSettings
from app.records import Problem, Trace
from app.rendering import Renderer
from app.sampling.engine import Completion, Engine, Request
from app.sampling.requests import sample_n
from app.sampling.settings import EnginePlacement, SamplingSettings
from app.sampling.vllm import VllmEngine
from app.tokens import TokenText
from app.verification.verifier import BuiltIn
from benchmarks.credit_scores import Score, Truth, World, distances, pairs, quality, reasons, score
from benchmarks.table import Row, arguments, publish, row
from tests.judging import judge_traces

T = TypeVar("T")
SAMPLES = 8
TRUTH, LESS = 256, 64  # rollouts a prefix behind the reference values; and where they only say why a pit is off
SEARCHES: dict[str, list[dict[str, float]]] = {
    "exhaustive": [{"rollouts": k} for k in (1, 2, 4, 8)],
    "binary": [{"rollouts": k} for k in (2, 4, 8)],
    "adaptive": [{"confidence": c} for c in (0.6, 0.7, 0.8, 0.9, 0.95)],
    "adaptive + sums": [{"confidence": c} for c in (0.6, 0.7, 0.8, 0.9, 0.95)],
}
PEER, OURS, SUMS = "exhaustive, rollouts 8", "adaptive, confidence 0.7", "adaptive + sums, confidence 0.7"
SURE = (0.0, 0.7, 0.8, 0.9, 0.95)  # least confidence of the pits behind pairs
SCALES: dict[bool, tuple[int, tuple[int, ...], int]] = {
    # quick: problems of the searches, numbers of problems of the engine's rate, traces with reference values
    True: (60, (120,), 6),
    False: (240, (480, 2400), 40),
}


class Replay(Engine):
    """Samples a request once and gives the same completion ever after."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.context_length = engine, engine.context_length
        self.done: dict[str, Completion] = {}

    async def generate(self, request: Request) -> Completion:
        if request.id not in self.done:
            self.done[request.id] = await self.engine.generate(request)
        return self.done[request.id]


class Recorded(Engine):
    """Keeps the requests it passes on."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.context_length = engine, engine.context_length
        self.requests: list[Request] = []

    async def generate(self, request: Request) -> Completion:
        self.requests.append(request)
        return await self.engine.generate(request)


@dataclass
class Bench:
    """The problems with their judged samples, and what it takes to search them."""

    engine: Engine
    renderer: Renderer
    problems: list[Problem]
    samples: dict[str, list[Judged]] = field(default_factory=dict)

    @property
    def sampler(self) -> Sampler:
        return Sampler(
            self.engine, "world", judge_texts(BuiltIn()), self.renderer.decode, temperature=1.0, max_tokens=120
        )

    @property
    def world(self) -> World:
        return World({p.id: p for p in self.problems}, self.samples)

    async def sample(self) -> int:
        """Draw and judge the samples; returns tokens written."""
        settings = SamplingSettings(policy="base", samples=SAMPLES, max_tokens=120)
        drawn = await asyncio.gather(
            *(
                sample_n(self.engine, p, self.renderer.prompt_ids(p.statement), settings, 0, "world")
                for p in self.problems
            )
        )
        named = {p.id: p for p in self.problems}
        for problem, written in zip(self.problems, drawn, strict=True):
            traces = [trace for trace, _ in written]
            self.samples[problem.id] = list(zip(traces, judge_traces(traces, named), strict=True))
        return sum(len(trace.token_ids) for written in drawn for trace, _ in written)

    async def search(self, settings: CreditSettings) -> Credit:
        """One search over all problems at once."""
        texts, out = TokenText(self.renderer.decode), Credit()
        found = await asyncio.gather(
            *(credit_problem(p, self.samples[p.id], self.sampler, texts, settings, True) for p in self.problems)
        )
        for credit in found:
            out.add(credit)
        return out

    def some_wrong(self, most: int) -> list[Trace]:
        """One wrong trace of each of the first problems that have a right one too."""
        usable = [p for p in self.problems if any(v.correct for _, v in self.samples[p.id])]
        found = [trace for p in usable for trace in distinct_traces(self.samples[p.id], False, 1)]
        return found[:most]

    async def truth(self, traces: Sequence[Trace], rollouts: int) -> Truth:
        """Q of every prefix of some wrong traces, from so many rollouts each."""
        texts, named = TokenText(self.renderer.decode), {p.id: p for p in self.problems}

        async def one(trace: Trace) -> list[float]:
            pool = ProblemRollouts(named[trace.problem_id], trace.prompt_token_ids, [trace], self.sampler)
            ends = [0, *(step.end for step in split(trace.token_ids, texts)[:-1])]
            drawn = await asyncio.gather(*(pool.take(tuple(trace.token_ids[:end]), rollouts) for end in ends))
            return [*(estimate(found).q or 0.0 for found in drawn), 0.0]

        values = await asyncio.gather(*map(one, traces))
        return dict(zip((trace.id for trace in traces), values, strict=True))


async def run(quick: bool) -> tuple[list[Row], dict[str, list[Score]]]:
    """All searches on one engine."""
    problems, crowds, valued = SCALES[quick]
    placement = EnginePlacement(kv_cache_gib=0.5, max_model_len=256)
    renderer = Renderer(str(WORLD_MODEL), RenderingSettings())
    engine = VllmEngine(str(WORLD_MODEL), placement)
    stories = Stories(operations=(4, 6))
    bench = Bench(Replay(engine), renderer, make_problems(12, problems, "train", stories))
    try:
        await engine.generate(Request("warm-up", tuple(renderer.prompt_ids(bench.problems[0].statement)), 0, 120))
        many = Bench(Recorded(engine), renderer, make_problems(13, max(crowds), "train", stories))
        rates = await speed(engine, many, crowds)
        await bench.sample()
        searches = {
            label(kind, part): await bench.search(settings_of(kind, part))
            for kind, parts in SEARCHES.items()
            for part in parts
        }
        truth = await bench.truth(bench.some_wrong(valued), TRUTH)
        missed = [name for name, off in distances(searches[OURS], bench.world).items() if off and name not in truth]
        traces = bench.world.traces()
        why = reasons(searches[OURS], bench.world, truth | await bench.truth([traces[n] for n in missed], LESS))
    finally:
        await engine.close()
    scores = {
        kind: [score(label(kind, part), searches[label(kind, part)], bench.world, truth) for part in parts]
        for kind, parts in SEARCHES.items()
    }
    table = rates + rows(scores)
    table += [row(f"{OURS}: pit off, {reason}", n, "traces") for reason, n in sorted(why.items())]
    for name in (OURS, "adaptive, confidence 0.95", SUMS, "binary, rollouts 4", PEER):
        table += pair_rows(name, searches[name], bench)
    table.append(row("traces with reference values", len(truth), "traces"))
    return table, scores


async def speed(engine: VllmEngine, bench: Bench, crowds: Sequence[int]) -> list[Row]:
    """How full searches keep the engine: their rollouts a second, against the same rollouts all asked for at once.

    For the first so many of the problems, of several numbers: a run ends with a few long searches, however long it is.

    Each starts with an empty prefix cache. Asked for at once is what no search can do: it knows what to ask only as
    answers come. Plain sampling is no equal peer: it reads its prompts once for eight long solutions, a rollout reads
    prompt and prefix for a short one; its rate is printed beside.
    """
    recorded = bench.engine
    assert isinstance(recorded, Recorded)
    plain, seconds = await _timed(bench.sample())
    table = [row("plain sampling", plain / seconds, "tokens/s")]
    everything = bench.problems
    for crowd, name in itertools.product(crowds, (OURS, SUMS)):
        bench.problems = everything[:crowd]
        kind, _, part = name.partition(", ")
        key, value = part.split()
        await engine.load_weights(str(WORLD_MODEL))  # empties the prefix cache
        recorded.requests.clear()
        found, seconds = await _timed(bench.search(settings_of(kind, {key: float(value)})))
        requests = list(recorded.requests)
        await engine.load_weights(str(WORLD_MODEL))
        _, at_once = await _timed(engine.generate_n(requests))
        tokens, read, traces = (found.counts[key] for key in ("tokens", "prompt_tokens", "traces"))
        what = f"{name}: {traces:.0f} traces in {seconds:.1f} s"
        rate = row(f"{what}, written", tokens / seconds, "tokens/s", "same rollouts at once", tokens / at_once)
        table += [rate, row(f"{what}, read", read / seconds, "prompt tokens/s")]
    return table


async def _timed(work: Awaitable[T]) -> tuple[T, float]:
    begun = time.perf_counter()
    return await work, time.perf_counter() - begun


def settings_of(kind: str, part: Mapping[str, float]) -> CreditSettings:
    search, _, sums = kind.partition(" + ")
    base = {"search": search, "sums": bool(sums), "traces_per_problem": 4, "max_tokens": 120, "rollouts": 8}
    return CreditSettings.model_validate({**base, **part})


def label(kind: str, part: Mapping[str, float]) -> str:
    [(key, value)] = part.items()
    return f"{kind}, {key} {value}"


def rows(scores: Mapping[str, Sequence[Score]]) -> list[Row]:
    """The table: every search against eight rollouts a step."""
    flat = [score for group in scores.values() for score in group]
    named = {score.name: score for score in flat}
    peer = named[PEER]
    out = []
    for name in (OURS, SUMS):
        ours = named[name]
        out.append(
            row(f"tokens a trace ({name})", ours.tokens, "tokens", "exhaustive", peer.tokens, lower_is_better=True)
        )
        out.append(row(f"exact first pits ({name})", ours.exact, "share", "exhaustive", peer.exact))
    for s in flat:
        out.append(row(f"{s.name}: exact", s.exact, "share", "exhaustive", peer.exact))
        out.append(row(f"{s.name}: within one", s.near, "share", "exhaustive", peer.near))
        out.append(row(f"{s.name}: tokens", s.tokens, "a trace", "exhaustive", peer.tokens, lower_is_better=True))
        out.append(row(f"{s.name}: pits named", s.pits / s.traces, "share"))
        out.append(row(f"{s.name}: inner prefixes with a value", s.valued, "share"))
        if s.q_error is not None:
            out.append(row(f"{s.name}: mean error of Q", s.q_error, "absolute"))
    out.append(row("traces", peer.traces, "traces"))
    return out


def pair_rows(name: str, credit: Credit, bench: Bench) -> list[Row]:
    """How many step pairs a search is good for, and how many of them part at the true first error."""
    texts, out = Texts(TokenText(bench.renderer.decode), bench.renderer.end_id, ""), []
    for sure in SURE:
        made = pairs(credit, bench.world, texts, StepDpoSettings(min_confidence=sure))
        if not made:
            continue
        out.append(row(f"{name}: pairs, pit at least {sure} sure", len(made), "pairs"))
        out.append(
            row(
                f"{name}: pairs at the true first error, pit at least {sure} sure",
                quality(made, bench.world) or 0.0,
                "share",
            )
        )
    return out


def figure(scores: Mapping[str, Sequence[Score]], file: Path) -> None:
    """Accuracy against tokens, one line a search."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.fonttype"] = "none"
    matplotlib.rcParams["svg.hashsalt"] = "credit"
    from matplotlib import pyplot

    canvas, axes = pyplot.subplots(figsize=(6, 3.6))
    for (kind, points), marker in zip(scores.items(), "s^oD", strict=True):
        axes.plot([s.tokens for s in points], [s.exact for s in points], marker=marker, label=kind)
    axes.set_xscale("log")
    axes.set_xlabel("tokens sampled a wrong trace")
    axes.set_ylabel("first pit = first wrong line")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    canvas.tight_layout()
    canvas.savefig(file, metadata={"Date": None})
    pyplot.close(canvas)


def options() -> argparse.Namespace:
    parser = arguments((__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="FILE", help="also draw accuracy against tokens here")
    return parser.parse_args()


def main() -> None:
    asked = options()
    table, scores = asyncio.run(run(asked.quick))
    publish(table, asked.json)
    if asked.figure:
        figure(scores, asked.figure)


if __name__ == "__main__":
    main()
