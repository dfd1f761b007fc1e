"""First pits on the grade-school world, against its oracle: accuracy for tokens, by each search.

    python -m benchmarks.credit [--quick] [--json FILE] [--figure FILE.svg]

The shipped base model solves stories somewhat longer than it was trained on, through vLLM. Every search sees the same
traces and, at the same prefix, the same rollouts: what was sampled for one is replayed for the next, and counted for
both.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.credit.problem import Credit, Judged, credit_problem, distinct_traces
from app.credit.rollouts import ProblemRollouts, Sampler
from app.credit.settings import CreditSettings
from app.credit.stage import judge_texts
from app.credit.steps import split
from app.credit.values import estimate
from app.policy import WORLD_MODEL
from app.problems.world import World, make_problems
from app.problems.world_oracle import first_wrong_line
from app.recipe import RenderingSettings
from app.records import Problem, StepValue
from app.rendering import Renderer
from app.sampling.engine import Completion, Engine, Request
from app.sampling.programs import sample_n
from app.sampling.settings import EnginePlacement, SamplingSettings
from app.sampling.vllm import VllmEngine
from app.tokens import TokenText
from app.verification.stage import judge_traces
from benchmarks.table import Row, arguments, publish, row

SAMPLES = 8
TRUTH = 256  # rollouts a prefix behind the reference values
SEARCHES: dict[str, list[dict[str, float]]] = {
    "exhaustive": [{"rollouts": k} for k in (1, 2, 4, 8)],
    "binary": [{"rollouts": k} for k in (2, 4, 8)],
    "adaptive": [{"rollouts": 8, "confidence": c} for c in (0.6, 0.7, 0.8, 0.9, 0.95)],
}
PEER, OURS = "exhaustive, rollouts 8", "adaptive, confidence 0.7"


class Replay(Engine):
    """Samples a request once and gives the same completion ever after."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.context_length = engine, engine.context_length
        self.done: dict[str, Completion] = {}

    async def generate(self, request: Request) -> Completion:
        if request.id not in self.done:
            self.done[request.id] = await self.engine.generate(request)
        return self.done[request.id]


@dataclass
class Bench:
    """The problems with their judged samples, and what it takes to search them."""

    engine: Engine
    renderer: Renderer
    problems: list[Problem]
    samples: dict[str, list[Judged]] = field(default_factory=dict)

    @property
    def sampler(self) -> Sampler:
        return Sampler(self.engine, "world", judge_texts, self.renderer.decode, temperature=1.0, max_tokens=120)

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
        for problem, pairs in zip(self.problems, drawn, strict=True):
            traces = [trace for trace, _ in pairs]
            self.samples[problem.id] = list(zip(traces, judge_traces(traces, named), strict=True))
        return sum(len(trace.token_ids) for pairs in drawn for trace, _ in pairs)

    async def search(self, settings: CreditSettings) -> Credit:
        """One search over all problems at once."""
        texts, out = TokenText(self.renderer.decode), Credit()
        found = await asyncio.gather(
            *(credit_problem(p, self.samples[p.id], self.sampler, texts, settings, True) for p in self.problems)
        )
        for credit in found:
            out.add(credit)
        return out

    async def truth(self, most: int) -> dict[tuple[str, int], float]:
        """Values from TRUTH rollouts after each inner step of one wrong trace of each of `most` problems."""
        texts, values = TokenText(self.renderer.decode), {}
        usable = [p for p in self.problems if any(v.correct for _, v in self.samples[p.id])]
        for problem in usable[:most]:
            for trace in distinct_traces(self.samples[problem.id], False, 1):
                pool = ProblemRollouts(problem, trace.prompt_token_ids, [trace], self.sampler)
                ends = [step.end for step in split(trace.token_ids, texts)][:-1]
                drawn = await asyncio.gather(*(pool.take(tuple(trace.token_ids[:end]), TRUTH) for end in ends))
                for step, rollouts in enumerate(drawn, 1):
                    q = estimate(rollouts).q
                    if q is not None:
                        values[trace.id, step] = q
        return values


@dataclass(frozen=True)
class Score:
    """What one search achieved. `off` counts pits by their distance from the oracle's line."""

    name: str
    traces: int
    pits: int
    tokens: float  # a trace
    off: Counter[int]
    q_error: float | None

    @property
    def exact(self) -> float:
        return self.off[0] / self.traces

    @property
    def near(self) -> float:
        return sum(self.off[d] for d in (-1, 0, 1)) / self.traces


def score(name: str, credit: Credit, bench: Bench, truth: dict[tuple[str, int], float]) -> Score:
    """Compare a search's pits with the oracle and its values with the reference values."""
    problems = {p.id: p for p in bench.problems}
    texts = {trace.id: trace.text for samples in bench.samples.values() for trace, _ in samples}

    def distance(value: StepValue) -> int:
        line = first_wrong_line(problems[value.problem_id], texts[value.trace_id])
        return 99 if line is None else value.step - 1 - line  # no line is wrong: nothing to find

    off = Counter(distance(value) for value in credit.values if value.first_pit)
    known = [(v.q, truth.get((v.trace_id, v.step))) for v in credit.values]
    errors = [abs(q - real) for q, real in known if q is not None and real is not None]
    traces = int(credit.counts["traces"])
    error = sum(errors) / len(errors) if errors else None
    return Score(name, traces, off.total(), credit.counts["tokens"] / traces, off, error)


async def run(quick: bool) -> tuple[list[Row], dict[str, list[Score]]]:
    """All searches on one engine."""
    placement = EnginePlacement(kv_cache_gib=0.5, max_model_len=256)
    renderer = Renderer(str(WORLD_MODEL), RenderingSettings())
    vllm = VllmEngine(str(WORLD_MODEL), placement)
    world = World(operations=(4, 6))
    bench = Bench(Replay(vllm), renderer, make_problems(12, 60 if quick else 120, "train", world))
    try:
        await vllm.generate(Request("warm-up", tuple(renderer.prompt_ids(bench.problems[0].statement)), 0, 120))
        plain = await _rate(bench.sample())
        first = await _rate(_tokens(bench, settings_of("adaptive", {"rollouts": 8, "confidence": 0.7})))
        truth = await bench.truth(0 if quick else 6)
        scores = {
            kind: [
                score(label(kind, part), await bench.search(settings_of(kind, part)), bench, truth) for part in parts
            ]
            for kind, parts in SEARCHES.items()
        }
    finally:
        await vllm.close()
    return rows(scores, plain, first), scores


async def _tokens(bench: Bench, settings: CreditSettings) -> int:
    return int((await bench.search(settings)).counts["tokens"])


async def _rate(work: Awaitable[int]) -> float:
    """Tokens a second of an awaitable that returns how many it wrote."""
    begun = time.perf_counter()
    return await work / (time.perf_counter() - begun)


def settings_of(kind: str, part: dict[str, float]) -> CreditSettings:
    return CreditSettings.model_validate({"search": kind, "traces_per_problem": 4, "max_tokens": 120, **part})


def label(kind: str, part: dict[str, float]) -> str:
    return f"{kind}, confidence {part['confidence']}" if kind == "adaptive" else f"{kind}, rollouts {part['rollouts']}"


def rows(scores: dict[str, list[Score]], plain: float, first: float) -> list[Row]:
    """The table: every search against eight rollouts a step."""
    flat = [score for group in scores.values() for score in group]
    peer = next(score for score in flat if score.name == PEER)
    ours = next(score for score in flat if score.name == OURS)
    out = [
        row(f"tokens a trace ({OURS})", ours.tokens, "tokens", "exhaustive", peer.tokens, lower_is_better=True),
        row(f"exact first pits ({OURS})", ours.exact, "share", "exhaustive", peer.exact),
    ]
    for s in flat:
        out.append(row(f"{s.name}: exact", s.exact, "share", "exhaustive", peer.exact))
        out.append(row(f"{s.name}: within one", s.near, "share", "exhaustive", peer.near))
        out.append(row(f"{s.name}: tokens", s.tokens, "a trace", "exhaustive", peer.tokens, lower_is_better=True))
        if s.pits:
            out.append(row(f"{s.name}: exact, of named pits", s.off[0] / s.pits, "share"))
        if s.q_error is not None:
            out.append(row(f"{s.name}: mean error of Q", s.q_error, "absolute"))
    before = sum(n for d, n in ours.off.items() if d < 0) / ours.traces
    after = sum(n for d, n in ours.off.items() if 0 < d < 99) / ours.traces
    out.append(row(f"{OURS}: pit before the oracle's line", before, "share"))
    out.append(row(f"{OURS}: pit after the oracle's line", after, "share"))
    out.append(row("traces", ours.traces, "traces"))
    out.append(row("rollouts of a search, engine cold", first, "tokens/s", "plain sampling", plain))
    return out


def figure(scores: Mapping[str, Sequence[Score]], file: Path) -> None:
    """Accuracy against tokens, one line a search."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    canvas, axes = pyplot.subplots(figsize=(6, 3.6))
    for kind, marker in (("exhaustive", "s"), ("binary", "^"), ("adaptive", "o")):
        points = scores[kind]
        axes.plot([s.tokens for s in points], [s.exact for s in points], marker=marker, label=kind)
    axes.set_xscale("log")
    axes.set_xlabel("tokens sampled a wrong trace")
    axes.set_ylabel("first pit = first wrong line")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    canvas.tight_layout()
    canvas.savefig(file, metadata={"Date": None})
    pyplot.close(canvas)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="FILE", help="also draw accuracy against tokens here")
    options = parser.parse_args()
    table, scores = asyncio.run(run(options.quick))
    publish(table, options.json)
    if options.figure:
        figure(scores, options.figure)


if __name__ == "__main__":
    main()
