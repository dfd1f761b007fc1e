"""New problems by a scripted writer of known errors, through the shipped code: how many references are wrong, what is
kept, and what is found of planted faults and planted evaluation problems.

Seven in ten single solutions are right: a problem's rate is drawn from a beta distribution. Wrong solutions are
independent, or a share of those of one problem have the same answer. The peer `single` takes one solution as it is.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.entry import begin

if __name__ == "__main__":
    begin("stopped")

from app.problems.certificate import Decontamination
from app.problems.contamination import EvaluationIndex
from app.problems.filtering import Filter, Index, index_of
from app.problems.minhash import MinHashIndex
from app.problems.overlap import NearIndex, statement_digest
from app.problems.settings import DecontaminationSettings, MinHashSettings, SynthesisSettings
from app.problems.sources import CALCULATOR_MARK, split_answer
from app.problems.strategies import Material
from app.problems.synthesis_stage import KEPT, Ledger
from app.problems.world import World, make_problems
from app.problems.writing import WRITTEN, Attempt, Writing
from app.records import Problem, chunked
from app.sampling.engine import all_or_none
from app.verification import equivalent
from benchmarks.planted import KINDS
from benchmarks.scripted_writer import FAULTS, Draft, ScriptedWriter, faulty, sound
from benchmarks.table import Row, arguments, publish, row

GSM8K = Path(__file__).resolve().parents[2] / "shared" / "data" / "gsm8k"
SINGLE: dict[str, Any] = {"solutions": 1, "agreement": 1.0}
RULES: dict[str, dict[str, Any]] = {
    "3, all agree": {"solutions": 3, "agreement": 1.0},
    "3, agreement 0.6": {"solutions": 3, "agreement": 0.6},
    "8, agreement 0.5": {"solutions": 8, "agreement": 0.5},
    "8, agreement 0.6": {"solutions": 8, "agreement": 0.6},
    "8, agreement 0.75": {"solutions": 8, "agreement": 0.75},
    "8, margin 3": {"solutions": 8, "margin": 3},
    "16, agreement 0.6": {"solutions": 16, "agreement": 0.6},
    "16, margin 4": {"solutions": 16, "margin": 4},
    "16, margin 5": {"solutions": 16, "margin": 5},
    "32, agreement 0.55": {"solutions": 32, "agreement": 0.55},
}
ERRORS = {"independent": 0.0, "30% alike": 0.3, "50% alike": 0.5}
SEEDS = [Problem("seed", "Ann has 3 apples and buys 4 apples. How many apples has she?", "7", "train", "benchmark")]


@dataclass(frozen=True)
class Outcome:
    """What a vote made of drafts."""

    kept: float  # share of the attempts
    wrong: float  # share of the references that were kept
    drawn: float  # solutions an attempt


def settings_of(vote: dict[str, Any], count: int) -> SynthesisSettings:
    writer = {"kind": "openai", "base_url": "", "model": "scripted"}
    return SynthesisSettings.model_validate({"count": count, "writer": writer, "vote": vote})


def written(
    drafts: Sequence[Draft], alike: float, vote: dict[str, Any], known: frozenset[str] = frozenset()
) -> list[Attempt]:
    """An attempt a draft, as the stage makes them."""
    writer, settings = ScriptedWriter(drafts, alike), settings_of(vote, len(drafts))
    writing = Writing(writer.answer, Material(SEEDS, 1), settings, 0, "hash", True, known, equivalent)

    async def all_of() -> list[Attempt]:
        found: list[Attempt] = []
        for numbers in chunked(range(len(drafts)), 64):
            found += await all_or_none(writing.attempt(number) for number in numbers)
        return found

    return asyncio.run(all_of())


def outcome(drafts: Sequence[Draft], attempts: Sequence[Attempt]) -> Outcome:
    kept = [(draft, attempt) for draft, attempt in zip(drafts, attempts, strict=True) if attempt.outcome == WRITTEN]
    wrong = sum(not equivalent(draft.answer, attempt.answer) for draft, attempt in kept)
    drawn = sum(attempt.requests - 2 for attempt in attempts)  # but for the draft and its check
    return Outcome(len(kept) / len(drafts), wrong / max(len(kept), 1), drawn / len(drafts))


def world_drafts(count: int) -> list[Draft]:
    problems = make_problems(0, count, "train", World())
    return [sound(problem.statement, problem.answer, number) for number, problem in enumerate(problems)]


def gsm8k_drafts(count: int) -> list[Draft]:
    """GSM8K's test problems without their answers; wrong ones are results on the way to the right one."""
    drafts = []
    for number, item in enumerate(gsm8k("test")[:count]):
        answer, _ = split_answer(item["answer"], "gsm8k")
        results = [mark.strip("<>").rpartition("=")[2] for mark in CALCULATOR_MARK.findall(item["answer"])]
        whole = [result for result in reversed(results) if re.fullmatch(r"-?\d+", result)]
        drafts.append(sound(" ".join(item["question"].split()), answer, number, whole))
    return drafts


def gsm8k(split: str) -> list[dict[str, str]]:
    """Rows of a split; none where the data set is not beside the checkout."""
    path = GSM8K / f"{split}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def votes(title: str, drafts: Sequence[Draft], rules: dict[str, dict[str, Any]]) -> list[Row]:
    """Wrong references among what is kept, against the peer `single`; the yield stands in the note."""
    rows = []
    for errors, alike in ERRORS.items():
        single = outcome(drafts, written(drafts, alike, SINGLE))
        for name, vote in {"1": SINGLE, **rules}.items():
            found = outcome(drafts, written(drafts, alike, vote))
            shares = (100 * found.wrong, "%", "single", 100 * single.wrong)
            told = f"yield {100 * found.kept:.0f}%, {found.drawn:.1f} solutions an attempt"
            measured = row(f"{title}, errors {errors}: {name}", *shares, lower_is_better=True)
            rows.append(replace(measured, note=told))
    return rows


def faults(each: int) -> list[Row]:
    """Share of faulty drafts that are dropped, by kind, and for which reason most; last, of sound ones."""
    bases = world_drafts(each * (len(FAULTS) + 1))
    seeds = make_problems(1, each, "train", World())
    held_out = make_problems(1, each, "test", World())
    drafts = [
        faulty(kind, bases[place * each + i], seeds[i].statement, held_out[i].statement, i)
        for place, kind in enumerate(FAULTS)
        for i in range(each)
    ]
    drafts += [replace(draft, right=1.0) for draft in bases[len(drafts) :]]
    vote = RULES["8, agreement 0.6"]
    settings = settings_of(vote, len(drafts))
    ledger = Ledger(settings, Decontamination(settings, held_out), Filter(seeds, index_of(settings)))
    rows, attempts = [], written(drafts, 0.0, vote, frozenset(statement_digest(seed.statement) for seed in seeds))
    for kind, some in zip((*FAULTS, "nothing: a sound draft"), chunked(attempts, each), strict=True):
        before = ledger.reasons
        ledger.take(list(some), {})
        ends = Counter(ledger.reasons)
        ends.subtract(before)
        [(reason, most)] = ends.most_common(1) or [(KEPT, 0)]
        dropped = row(f"dropped where the fault is: {kind}", sum(ends.values()) / each, "share")
        rows.append(replace(dropped, note=reason if most else ""))
    return rows


def planted(listed: int, others: int) -> list[Row]:
    """Recall of changed GSM8K test problems by kind, and how many of its training problems are flagged."""
    evaluation = [item["question"] for item in gsm8k("test")][:listed]
    training = [item["question"] for item in gsm8k("train")][:others]
    rows = []
    for masked in (False, True):
        index = EvaluationIndex(DecontaminationSettings(mask_numbers=masked), 0.8)
        index.add("test", evaluation)
        title = "numbers masked" if masked else "numbers as they are"
        for kind, change in KINDS.items():
            rng = random.Random(0)
            texts = [(place, text) for place, text in enumerate(change(t, rng) for t in evaluation) if text]
            hits = [(index.match(text), place) for place, text in texts]
            right = sum(hit is not None and hit.place == place for hit, place in hits)
            rows.append(
                replace(row(f"{title}: found, {kind}", right / len(texts), "share"), note=f"of {len(texts)} planted")
            )
        flagged = sum(index.match(text) is not None for text in training)
        note = f"{flagged} of {len(training)} training problems"
        rows.append(replace(row(f"{title}: flagged", flagged / len(training), "share"), note=note))
    return rows


def duplicates(many: int) -> list[Row]:
    """Statements a second of both indexes at the start and among many, and the memory of the one for many."""
    rng, vocabulary = random.Random(0), [f"w{n}" for n in range(5_000)]

    def speed(index: Index, count: int) -> float:
        texts = [" ".join(rng.choices(vocabulary, k=45)) for _ in range(count)]
        begin = time.process_time()
        for text in texts:
            if index.match(text) is None:
                index.add(text, "synthetic")
        return count / (time.process_time() - begin)

    index, piece = MinHashIndex(MinHashSettings()), many // 50
    first = speed(index, piece)
    for _ in range(48):
        speed(index, piece)
    title = f"MinHash among {many:,} statements"
    rows = [row(f"{title}, against its first {piece:,}", speed(index, piece), "statements/s", "start", first)]
    rows.append(row(f"{title}: memory of one", index.memory / many, "bytes"))
    rows.append(row(f"exact index, first {piece:,} statements", speed(NearIndex(0.8), piece), "statements/s"))
    return rows


def repeated(count: int) -> list[Row]:
    """Share of changed GSM8K problems that each index calls near duplicates, by kind; last, of other problems."""
    known = [item["question"] for item in gsm8k("test")][:count]
    others = [item["question"] for item in gsm8k("train")][:count]
    rows = []
    indexes: dict[str, Index] = {"MinHash": MinHashIndex(MinHashSettings()), "exact index": NearIndex(0.8)}
    for name, index in indexes.items():
        for text in known:
            index.add(text, "seed")
        for kind, change in {**KINDS, "nothing alike": None}.items():
            dice = random.Random(0)
            texts = [new for text in known if (new := change(text, dice))] if change else others
            found = sum(index.match(text) is not None for text in texts)
            rows.append(replace(row(f"{name}: dropped, {kind}", found / len(texts), "share"), note=f"of {len(texts)}"))
    return rows


def main(argv: list[str] | None = None) -> int:
    options = arguments(__doc__ or "").parse_args(argv)
    quick = options.quick
    rows = votes("wrong references", world_drafts(600 if quick else 5_000), RULES)
    rows += faults(20 if quick else 200)
    if gsm8k("test"):
        few = {name: RULES[name] for name in ("8, agreement 0.6", "16, margin 5")}
        rows += votes("GSM8K's own answers", gsm8k_drafts(300 if quick else 1_319), few)
        rows += planted(1_319, 1_500 if quick else 7_473)
        rows += repeated(1_319)
    else:
        rows.append(Row("GSM8K: not beside the checkout", None, "", note=f"no {GSM8K.name} folder; nothing measured"))
    rows += duplicates(25_000 if quick else 1_000_000)
    publish(rows, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
