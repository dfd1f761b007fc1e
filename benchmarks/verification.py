"""The verifier against Math-Verify: rates, accuracy on our own cases, cost of hostile inputs.

Both run in this process, one after the other over the same rows, with cold caches. Math-Verify is given each trace as
its documentation shows: parse(reference), parse(trace), verify.
"""

from __future__ import annotations

import gc
import itertools
import json
import logging
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from app.entry import begin

if __name__ == "__main__":
    begin("stopped")

import pyarrow as pa

from app.verification import equivalent, judge, judge_batch
from app.verification.settings import BUILT_IN
from benchmarks.table import Row, arguments, publish, row
from jobs import verify
from tests.verification.cases import DIFFERENT, SAME
from tests.verification.hostile import CORPUS

PEER = "math-verify"
GSM8K = Path(__file__).resolve().parents[2] / "shared" / "data" / "gsm8k"
Rows = list[tuple[str, str]]


def peer_judge(reference: str, text: str) -> bool:
    """Math-Verify's verdict; an exception it lets out counts as a rejection."""
    from math_verify import parse, verify

    try:
        return bool(verify(parse(f"${reference}$"), parse(text)))
    except Exception:
        return False


def own_judge(reference: str, text: str) -> bool:
    return judge(reference, text).correct


def cold() -> None:
    """Forget what earlier rows taught the caches."""
    from app.verification import compare, parser

    for cached in (parser.read, compare._plain_reference, compare._wordy):
        cached.cache_clear()
    gc.collect()


def timed(function: Callable[[str, str], bool], rows: Rows) -> tuple[float, list[bool]]:
    """Rows a second of CPU time, and the verdicts."""
    cold()
    start = time.process_time()
    verdicts = [function(r, t) for r, t in rows]
    return len(rows) / (time.process_time() - start), verdicts


def gsm8k_rows(limit: int) -> Rows:
    """GSM8K reference solutions: (answer, solution). Without the data set, synthetic traces of the same form."""
    rows: Rows = []
    for name in ("test", "train"):
        path = GSM8K / f"{name}.jsonl"
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                answer = json.loads(line)["answer"]
                rows.append((answer.split("####")[1].strip(), answer))
    rng = random.Random(0)
    while len(rows) < limit:
        a, b = rng.randint(2, 999), rng.randint(2, 999)
        steps = (
            f"First, there are {a} boxes.\nEach holds {b} pens, so {a} * {b} = <<{a}*{b}={a * b}>>{a * b} pens.\n" * 3
        )
        rows.append((str(a * b), f"{steps}#### {a * b}"))
    rng.shuffle(rows)
    return rows[:limit]


def latex_rows(repeats: int) -> Rows:
    """Mixed LaTeX pairs in boxes, made distinct by what stands around them."""
    classes = [k for k in SAME if k not in ("calculus", "choice", "words", "time", "base")]
    pairs = [p for k in classes for p in (*SAME[k], *DIFFERENT[k])]
    return [(r, f"Case {i}: we find $\\boxed{{{a}}}$.") for i in range(repeats) for r, a in pairs]


def rates(quick: bool) -> list[Row]:
    numeric = gsm8k_rows(1_000 if quick else 8_792)
    ours, ours_right = timed(own_judge, numeric)
    theirs, theirs_right = timed(peer_judge, numeric[: 500 if quick else 3_000])
    rows = [
        row("numeric traces, one process", ours, "traces/s", PEER, theirs),
        row("numeric traces judged correct", _share(ours_right), "share", PEER, _share(theirs_right)),
    ]
    others = [(r, t) for (r, _), (own, t) in itertools.pairwise(numeric) if r != own]
    _, wrong = timed(own_judge, others)
    rows.append(row("traces judged correct against another answer", _share(wrong), "share"))
    mixed = latex_rows(1)
    ours, _ = timed(own_judge, mixed)
    theirs, _ = timed(peer_judge, mixed[:: 3 if quick else 1])
    rows.append(row("mixed LaTeX pairs, one process", ours, "pairs/s", PEER, theirs))
    copies = [(r, t) for r, t in numeric[:100] for _ in range(16)]
    start = time.process_time()
    judge_batch([r for r, _ in copies], [t for _, t in copies])
    batched = len(copies) / (time.process_time() - start)
    alone, _ = timed(own_judge, copies)
    rows.append(row("batch of 16 like answers each, against single calls", batched, "traces/s", "plain", alone))
    return rows


def _share(verdicts: Sequence[bool]) -> float:
    return sum(verdicts) / len(verdicts)


def accuracy(quick: bool) -> list[Row]:
    """Agreement with the labels of our own cases. They were written by us under our policies: read it as coverage."""
    rows = []
    for name, table, label in (
        ("pairs of the same answer accepted", SAME, True),
        ("pairs of different answers rejected", DIFFERENT, False),
    ):
        pairs = [p for k in table if k != "calculus" for p in table[k]][:: 4 if quick else 1]
        ours = [equivalent(r, a) == label for r, a in pairs]
        theirs = [peer_judge(r, f"$\\boxed{{{a}}}$") == label for r, a in pairs]
        rows.append(row(f"own cases: {name}", _share(ours), "share", PEER, _share(theirs)))
    return rows


def hostile(quick: bool) -> list[Row]:
    """CPU seconds of the costliest hostile input, and how many cost more than 0.1 s."""
    corpus = [c for c in CORPUS if len(c) < 20_000]
    ours = [_cost(own_judge, c) for c in CORPUS]
    rows = [
        row("hostile inputs: worst CPU time", max(ours), "s"),
        row("hostile inputs above 0.1 s of CPU", float(sum(s > 0.1 for s in ours)), f"of {len(ours)}"),
    ]
    sample = corpus[:: 30 if quick else 3]
    theirs, same = [_cost(peer_judge, c) for c in sample], [_cost(own_judge, c) for c in sample]
    rows.append(row("hostile sample: total CPU time", sum(same), "s", PEER, sum(theirs), lower_is_better=True))
    return rows


def _cost(function: Callable[[str, str], bool], answer: str) -> float:
    start = time.process_time()
    function("42", f"\\boxed{{{answer}}}")
    return time.process_time() - start


def actors(traces: int) -> list[Row]:
    """Traces a second through one Ray actor and through two, out of `traces` rows (at least 4)."""
    from app.cluster import ray_session

    found = itertools.islice(itertools.cycle(gsm8k_rows(min(traces, 2_000))), traces)
    numbered = [(reference, f"{text}\n{number}") for number, (reference, text) in enumerate(found)]  # none twice
    table = pa.table({"reference": [r for r, _ in numbered], "text": [t for _, t in numbered]})
    with ray_session(cpus=2):
        measured = {n: _through(table, n) for n in (1, 2)}
    return [row("through two Ray actors, against one", measured[2], "traces/s", "plain", measured[1])]


def _through(table: pa.Table, actors: int) -> float:
    import ray

    names = ("reference", "text", None, None)
    pool = verify.pool(actors, BUILT_IN)
    ray.get([actor.judge.remote(table.slice(0, 100), *names) for actor in pool])  # imports and first rules
    size = table.num_rows // (2 * actors)
    start = time.perf_counter()
    parts = [table.slice(i * size, size) for i in range(2 * actors)]
    ray.get([pool[i % actors].judge.remote(part, *names) for i, part in enumerate(parts)])
    rate = 2 * actors * size / (time.perf_counter() - start)
    for actor in pool:
        ray.kill(actor)
    return rate


def main(argv: list[str] | None = None) -> int:
    options = arguments(__doc__ or "").parse_args(argv)
    logging.disable(logging.WARNING)  # the peer warns at every timeout
    quick = options.quick
    rows = [*rates(quick), *accuracy(quick), *hostile(quick), *actors(8_000 if quick else 40_000)]
    publish(rows, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
