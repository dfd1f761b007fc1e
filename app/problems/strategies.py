"""Ways to write a problem: one entry and one prompt file each, mixed by weight. A recipe's `plugins` may add more.

    from app.problems.strategies import Strategy, register

    register(Strategy("mine", "my_folder/mine.txt", my_fields))

in a module under `plugins`, and a recipe may say `synthesis: {strategies: {similar: 1, mine: 2}}`. A prompt's fields
are {rules} and what `fields` gives.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from app.errors import UserError, nearest
from app.problems.concepts import Concepts
from app.problems.prompts import filled, lines, prompt
from app.records import Problem, seed_from

CONCEPTS, FAIL_RATES = "concepts", "fail_rates"  # what a strategy may need beside the seeds


@dataclass(frozen=True)
class Material:
    """What a problem is written from.

    Attributes:
        seeds: in order of id.
        shown: seeds a prompt shows.
        kind: what the answer must be, in words.
        concepts: of the seeds; none where no strategy needs them.
        failing: running sums of the policy's fail rates over `seeds`; empty where no strategy needs them.
    """

    seeds: Sequence[Problem]
    shown: int
    kind: str = "a number"
    concepts: Concepts = field(default_factory=lambda: Concepts(()))
    failing: Sequence[float] = ()

    def draw(self, rng: random.Random, count: int) -> list[Problem]:
        """Different seeds, each as likely as any other."""
        return rng.sample(self.seeds, min(count, len(self.seeds)))

    def draw_failed(self, rng: random.Random, count: int) -> list[Problem]:
        """Seeds in proportion to the policy's fail rate, each once; none where it fails at none."""
        if not self.failing or self.failing[-1] <= 0:
            return []
        drawn = rng.choices(self.seeds, cum_weights=self.failing, k=4 * count)
        return list({seed.id: seed for seed in drawn}.values())[:count]


Fields = Callable[[Material, random.Random], dict[str, str] | None]


@dataclass(frozen=True)
class Strategy:
    """A way to write. `fields` gives what its prompt needs, or None where the material has none of it."""

    name: str
    prompt: str  # a file of prompts/ by its name, or a path that ends in .txt
    fields: Fields
    needs: frozenset[str] = frozenset()  # of CONCEPTS and FAIL_RATES

    def ask(self, material: Material, rng: random.Random) -> str | None:
        """The text of one request; None where the material does not serve."""
        given = self.fields(material, rng)
        if given is None:
            return None
        rules = filled(prompt("rules"), {"kind": material.kind})
        return filled(prompt(self.prompt), {"rules": rules, **given})


def cumulated(rates: Sequence[float]) -> list[float]:
    """Running sums, as `Material.failing` holds them."""
    return list(accumulate(rates))


def told(problems: Sequence[Problem]) -> str:
    """Seeds as a prompt shows them."""
    return "\n\n".join(f"Problem: {problem.statement}" for problem in problems)


def _examples(material: Material, rng: random.Random) -> dict[str, str]:
    return {"examples": told(material.draw(rng, material.shown))}


def _one(material: Material, rng: random.Random) -> dict[str, str]:
    return {"examples": told(material.draw(rng, 1))}


def _backward(material: Material, rng: random.Random) -> dict[str, str]:
    [seed] = material.draw(rng, 1)
    return {"examples": told([seed]), "answer": seed.answer}


def _harder(material: Material, rng: random.Random) -> dict[str, str]:
    return _one(material, rng) | {"change": rng.choice(lines("changes"))}


def _concept_pair(material: Material, rng: random.Random) -> dict[str, str] | None:
    pair = material.concepts.pair(rng)
    return None if pair is None else _one(material, rng) | {"first": pair[0], "second": pair[1]}


def _persona(material: Material, rng: random.Random) -> dict[str, str]:
    return _examples(material, rng) | {"persona": rng.choice(lines("personas"))}


def _from_failures(material: Material, rng: random.Random) -> dict[str, str] | None:
    failed = material.draw_failed(rng, material.shown)
    return {"examples": told(failed)} if failed else None


STRATEGIES: dict[str, Strategy] = {}


def register(strategy: Strategy) -> None:
    """Make a strategy known by its name. Raises UserError where there is one of that name."""
    if STRATEGIES.setdefault(strategy.name, strategy) != strategy:
        raise UserError(f"strategy {strategy.name}: there is one of that name; choose another")


for _strategy in (
    Strategy("similar", "similar", _examples),
    Strategy("rephrase", "rephrase", _one),  # MetaMath, 2309.12284
    Strategy("backward", "backward", _backward),  # FOBAR, as in MetaMath
    Strategy("harder", "harder", _harder),  # Evol-Instruct
    Strategy("concept_pair", "concept_pair", _concept_pair, frozenset({CONCEPTS})),  # MathScale, 2403.02884
    Strategy("persona", "persona", _persona),  # PersonaHub, 2406.20094
    Strategy("from_failures", "from_failures", _from_failures, frozenset({FAIL_RATES})),  # SwS, 2506.08989
):
    register(_strategy)


def find(name: str) -> Strategy:
    """A strategy by name. Raises UserError where there is none."""
    if name not in STRATEGIES:
        raise UserError(f"synthesis.strategies.{name}: no such strategy{nearest(name, STRATEGIES)}")
    return STRATEGIES[name]


def needs(weights: Mapping[str, float]) -> frozenset[str]:
    """What the strategies that are used need beside the seeds."""
    return frozenset().union(*(find(name).needs for name, weight in weights.items() if weight > 0))


def chosen(weights: Mapping[str, float], number: int, seed: int) -> tuple[Strategy, random.Random]:
    """The strategy of attempt `number`, and what draws its seeds: fixed by the run's seed, whoever asks."""
    rng = random.Random(seed_from("synthesis", seed, number))
    names = sorted(weights)
    return find(rng.choices(names, [weights[name] for name in names])[0]), rng
