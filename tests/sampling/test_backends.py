"""An engine from outside the package, and a placement of its own for each role."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cost import held
from app.errors import UserError
from app.evaluation import stage as evaluation
from app.evaluation.stage import EvaluationWorker
from app.policy import Policy
from app.recipe import Recipe
from app.records import Problem, Trace
from app.sampling.backends import create
from app.sampling.settings import EnginePlacement
from app.sampling.stage import SamplingWorker, pool, work
from app.store import Output
from tests.credit import student as world
from tests.runs import TINY

OUTSIDE = '''
from app.sampling.engine import Completion, Engine
from app.sampling.meter import Meter


class Parrot(Engine):
    """Says the first token of the prompt again."""

    def __init__(self, place):
        self.context_length, self.meter = place.max_model_len or 64, Meter()

    async def generate(self, request):
        token = request.prompt_token_ids[0]
        return Completion((token,), f"#### {token}", "stop")


def create(policy, place, revision, trust_remote_code):
    return Parrot(place)


def nothing(policy, place, revision, trust_remote_code):
    return None
'''


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "parrot.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("parrot", None)


def test_an_engine_of_the_users_own_samples_a_shard(outside: Path) -> None:
    place = {"sampling": {"backend": "parrot:create", "max_model_len": 500}}
    recipe = world.recipe(placement=place, sampling={"samples": 2})
    problems, output = Output(str(outside), "problems", "k"), Output(str(outside), "sampling/base", "k")
    problems.write_shard(0, Problem.table(world.problems()))
    worker = SamplingWorker(*work(recipe, world.POLICY), problems, output)
    asyncio.run(worker.process(0))
    traces = Trace.from_table(output.read())
    assert traces and all(t.token_ids == t.prompt_token_ids[:1] for t in traces)


def test_each_role_has_the_engine_of_its_own_placement(outside: Path) -> None:
    own = {"backend": "parrot:create", "max_model_len": 77}
    recipe = world.recipe(placement={"sampling": own | {"max_model_len": 500}, "evaluation": own})
    problems = Output(str(outside), "problems", "k")
    problems.write_shard(0, Problem.table(world.problems()))
    assert EvaluationWorker(*evaluation.work(recipe, world.POLICY), problems, problems).engine.context_length == 77
    assert SamplingWorker(*work(recipe, world.POLICY), problems, problems).engine.context_length == 500


def test_what_a_role_holds_and_is_called() -> None:
    body = TINY | {"placement": {"sampling": {"actors": 4, "gpus": 1}, "evaluation": {"actors": 2, "gpus": 2}}}
    recipe = Recipe.model_validate(body)
    assert (held(recipe, "sampling/sft").gpus, held(recipe, "evaluation/sft").gpus) == (4, 4)
    assert recipe.placement.engines("writer") == recipe.placement.sampling
    assert (recipe.placement.named("writer"), recipe.placement.named("evaluation")) == (
        "placement.sampling",
        "placement.evaluation",
    )
    assert pool(recipe, "evaluation").asked_by == "placement.evaluation"
    assert pool(recipe).asked_by == "placement.sampling"


@pytest.mark.parametrize(
    ("backend", "says"),
    [
        ("no_such:create", "cannot be imported"),
        ("parrot:nobody", "cannot be imported"),
        ("parrot:nothing", "must return an Engine"),
    ],
)
def test_a_backend_that_is_none(outside: Path, backend: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        create(Policy("x", "y"), EnginePlacement(backend=backend), None, False)


def test_an_engine_that_cannot_change_its_weights_says_so(outside: Path) -> None:
    engine = create(Policy("x", "y"), EnginePlacement(backend="parrot:create"), None, False)
    with pytest.raises(UserError, match="Parrot cannot change its weights"):
        asyncio.run(engine.load_weights("elsewhere"))
    with pytest.raises(UserError, match="serves no adapters"):
        engine.serving("elsewhere")
