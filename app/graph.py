"""A recipe as a list of stages in order: what each reads, and which settings decide its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import count
from typing import Any

from app.errors import UserError
from app.methods import CREDIT, SAMPLES, TEACHER, find
from app.policy import base_policy, file_digest
from app.problems.strategies import FAIL_RATES
from app.problems.strategies import needs as needs_of
from app.recipe import EngineRole, Recipe
from app.runs import BASE, Run
from app.stage import Stage, StageContext
from app.training.settings import ReferenceSettings
from app.verification.verifier import verifier_of

# Bumped by hand when the meaning of a stage's output changes; the code itself is not part of any key.
REVISIONS = {
    "problems": 2,
    "synthesis": 3,
    "datasets": 4,
    "training": 3,
    "sampling": 3,
    "verification": 2,
    "credit": 3,
    "evaluation": 2,
    "report": 5,
}


# How a training fits its machine. They decide no result, and are what one changes where memory ran out.
HOW = {"micro_batch", "micro_batch_tokens", "gradient_checkpointing", "checkpoint_steps"}

# Settings that came after runs were made: at what was the only way then they are in no key.
LATER = {"optimizer": "adamw", "betas": [0.9, 0.95]}
LATER_SOURCE = {"solution_field": None, "on_bad_row": "stop"}  # the same of problems.source
LATER_RENDERING: dict[str, Any] = {"few_shot": [], "template_arguments": {}}  # of rendering
LATER_SAMPLING = {"top_k": None, "min_p": 0.0}  # of sampling


def as_before(settings: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """Settings without those that came later, where they are what was the only way before."""
    return {name: value for name, value in settings.items() if name not in later or value != later[name]}


def build(recipe: Recipe) -> list[Stage]:
    """All stages of a recipe, inputs before the stages that read them. Raises UserError where parts do not fit."""
    check(recipe)
    return Builder(recipe).stages()


def check(recipe: Recipe) -> None:
    """Parts of a recipe that need each other. Raises UserError with the first that is missing."""
    unheld = recipe.evaluation.split == "validation" and not recipe.problems.may_validate
    untested = recipe.evaluation.split == "test" and not recipe.problems.may_test
    told = "name some in problems.source, or hold some out: problems.validation: 200, evaluation.split: validation"
    needs = [
        *_synthesis_needs(recipe),
        (untested, f"evaluation.split is test, but the source has no test problems; {told}"),
        (recipe.credit and not recipe.sampling, "credit needs sampling: add a sampling part"),
        (unheld, "evaluation.split is validation: no validation problems; raise problems.validation"),
    ]
    runs = recipe.trained()
    for run in runs.values():
        needs += _run_needs(recipe, run, runs)
    for wrong, message in needs:
        if wrong:
            raise UserError(f"recipe {recipe.name}: {message}")


def _synthesis_needs(recipe: Recipe) -> list[tuple[Any, str]]:
    synthesis = recipe.synthesis
    if synthesis is None:
        return []
    rated, world = synthesis.difficulty, synthesis.writer.kind == "world"
    failing = FAIL_RATES in needs_of(synthesis.strategies)
    policy, here = rated.policy if rated else BASE, "synthesis.difficulty"
    return [
        (failing and not rated, f"synthesis.strategies.from_failures needs fail rates: add {here}"),
        (world and rated, f"{here}: the world's writer is not asked; use a vllm or openai writer"),
        (policy not in (BASE, *recipe.models), f"{here}.policy: no such model: {policy}; base or one of `models`"),
    ]


def _run_needs(recipe: Recipe, run: Run, runs: Mapping[str, Run]) -> list[tuple[Any, str]]:
    here = f"runs.{run.name}"
    rft = run.data if run.method.name == "rft" else None
    rights = [p.credit.correct_traces if p.credit else 0 for p in map(recipe.asked_of, run.samples)]
    right = min(rights, default=0)
    samples = run.needs & {SAMPLES, CREDIT} or run.rounds
    found: list[tuple[Any, str]] = [
        (samples and not recipe.sampling, f"{here} needs samples: add a sampling part"),
        (CREDIT in run.needs and not recipe.credit, f"{here} needs step values: add a credit part"),
        (
            getattr(rft, "drop_lucky_wrong", False) and not right,
            f"{here}.drop_lucky_wrong: set credit.correct_traces above 0",
        ),
        (
            getattr(rft, "max_no_progress", 1) < 1 and not right,
            f"{here}.max_no_progress: set credit.correct_traces above 0",
        ),
        (run.rounds and not run.needs & {SAMPLES, CREDIT}, f"{here}.rounds: {run.method.name} learns from no samples"),
    ]
    if run.training is None:
        return found
    start = runs.get(run.init)
    lora = start.training.lora if start and start.training else None
    told = f"{here} starts from it, and training starts from whole weights; merge it"
    found.append((lora and not lora.merge, f"runs.{run.init}.lora.merge is false: {told}"))
    own = run.training.lora
    told = "the next round starts from it, and training starts from whole weights; merge it"
    found.append((run.rounds and run.rounds.count > 1 and own and not own.merge, f"{here}.lora.merge is false: {told}"))
    gated = run.rounds is not None and run.rounds.gate
    judged = run.training.judged or gated
    field = "evaluate_every" if run.training.evaluate_every else "rounds.gate" if gated else "gate"
    unheld = judged and not recipe.problems.may_validate
    found.append((unheld, f"{here}.{field}: no validation problems; raise problems.validation"))
    return found


Work = Callable[[StageContext], None]


def _lazy(module: str) -> Work:
    """A stage's run function, imported when it runs, so that planning needs no engine."""

    def run(context: StageContext) -> None:
        import_module(module).run(context)

    return run


Source = tuple[str, Recipe, str | None]  # a policy to sample, what is asked of it, and what may make that needless


class Builder:
    """Adds stages one by one; one that would do what another does already is that other."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.out: dict[str, Stage] = {}  # by name
        self.keys: dict[str, str] = {}  # key -> name
        self.key_of: dict[str, str] = {}  # name -> key
        self.models = {BASE: recipe.model, **recipe.models}
        self.prints = {name: base_policy(model).fingerprint for name, model in self.models.items()}
        self.common = {
            "base": self.prints[BASE],
            "rendering": as_before(recipe.rendering.model_dump(mode="json"), LATER_RENDERING),
        }
        self.seeded = self.common | {"seed": recipe.seed}
        self.verifier = verifier_of(recipe.verification).fingerprint()
        self.judged = self.seeded | {"verifier": self.verifier}
        self.source = "synthesis" if recipe.synthesis else "problems"
        self.newest: dict[str, str] = {}  # run -> its training stage
        self.shown: list[str] = []  # policies, in the order of the report

    def stages(self) -> list[Stage]:
        self.problems()
        if self.recipe.synthesis:
            self.synthesis()
        runs = self.recipe.trained()
        self.shown = [BASE, *(name for name in self.recipe.models if any(run.init == name for run in runs.values()))]
        for run in runs.values():
            if run.rounds:
                self.rounds(run)
            else:
                self.plain(run)
        if self.recipe.sampling and not any(run.samples for run in runs.values() if run.needs & {SAMPLES, CREDIT}):
            self.samples(BASE, self.recipe.credit is not None)
        evaluated = {policy: self.evaluation(policy) for policy in self.shown}
        self.report(evaluated, runs)
        return list(self.out.values())

    def add(
        self, name: str, run: str | Work, settings: dict[str, Any], inputs: Mapping[str, str], /, **more: Any
    ) -> str:
        """The name of the stage that does this: a new one, or one that is there.

        Args:
            run: what it does, or the module whose `run` does.
        """
        stage_fields = {key: more.pop(key) for key in ("recipe", "after", "passes") if key in more}
        kind = name.partition("/")[0]
        work = _lazy(run) if isinstance(run, str) else run
        stage = Stage(name, work, settings, dict(inputs), REVISIONS[kind], more, **stage_fields)
        key = stage.key({role: self.key_of[other] for role, other in inputs.items()})
        if key in self.keys:
            same = self.out[self.keys[key]]
            if same.after and not stage.after:  # somebody needs it in any case
                self.out[same.name] = replace(same, after=None)
            return same.name
        if name in self.out:  # the same policy, asked otherwise
            number = next(n for n in count(2) if f"{name}-{n}" not in self.out)
            stage = replace(stage, name=f"{name}-{number}")
        self.out[stage.name], self.keys[key], self.key_of[stage.name] = stage, stage.name, key
        return stage.name

    # -- problems -----------------------------------------------------------------------------------------------------

    def problems(self) -> None:
        settings = self.recipe.problems.model_dump(mode="json")
        settings["source"] = as_before(settings["source"], LATER_SOURCE)
        source = self.recipe.problems.source
        if source.kind == "file":  # what is in the files decides, not where they lie
            paths = {split: getattr(source, split) for split in ("train", "validation", "test")}
            settings["source"] |= {split: file_digest(path) if path else None for split, path in paths.items()}
        settings["seed"] = self.recipe.seed
        self.add("problems", "app.problems.stage", settings, {})

    def synthesis(self) -> None:
        assert self.recipe.synthesis
        settings = self.recipe.synthesis.model_dump(mode="json") | {"seed": self.recipe.seed}
        for address in ("base_url", "concurrency", "api_key_env"):
            settings["writer"].pop(address, None)
        lists = self.recipe.synthesis.decontamination.lists
        settings["decontamination"]["lists"] = {name: file_digest(path) for name, path in lists.items()}
        if self.recipe.synthesis.writer.kind == "vllm":
            settings["writer"]["weights"] = base_policy(self.recipe.synthesis.writer.weights).fingerprint
            settings["writer"] |= self.served("writer")
        if (
            self.recipe.synthesis.writer.kind != "world"
        ):  # it says which answers agree, and the prompt how they are marked
            settings |= {"verifier": self.verifier, "rendering": self.common["rendering"]}
        if self.recipe.synthesis.difficulty:
            settings["difficulty"]["policy"] = self.prints[self.recipe.synthesis.difficulty.policy]
            settings["difficulty"] |= self.served("sampling")
        self.add("synthesis", "app.problems.synthesis_stage", settings, {"problems": "problems"})

    # -- runs ---------------------------------------------------------------------------------------------------------

    def plain(self, run: Run) -> None:
        """A run that trains once, or only collects a data set."""
        roles = self.sources([(name, self.recipe.asked_of(name), None) for name in run.samples], run)
        dataset = self.dataset(run.name, run, roles)
        if run.training:
            self.newest[run.name] = self.train(run.name, run, dataset, run.init)
            self.shown.append(run.name)

    def rounds(self, run: Run) -> None:
        """A chain of rounds. The last one has the run's name, those before it have their number behind that."""
        assert run.rounds
        last, window = run.rounds.count, run.rounds.window
        first = None
        sampled: list[list[Source]] = []  # by round
        start = run.init
        for number in range(1, last + 1):
            this = run.round(number)
            name = run.name if number == last else f"{run.name}-{number}"
            after = self.newest[start] if number > 1 and run.rounds.gate else None
            change = run.rounds.change(number)
            more = {"sampling": change.sampling, "credit": change.credit}
            names = run.samples if number == 1 else (start,)
            sampled.append([(policy, self.recipe.asked_of(policy, more), after) for policy in names])
            kept = sampled if window == "all" else sampled[-window:]
            roles = self.sources([each for group in kept for each in group], this)
            dataset = self.dataset(name, this, roles, after)
            reference = first if run.rounds.reference == "first" and number > 1 else None
            self.newest[name] = self.train(name, this, dataset, start, after, reference)
            self.shown.append(name)
            first = first or start
            start = name

    def sources(self, policies: Sequence[Source], run: Run) -> dict[str, str]:
        """Roles and stages of what a run learns from: `sampling`, `sampling.1` and so on, one for each policy."""
        roles: dict[str, str] = {}
        if TEACHER in run.needs and SAMPLES in run.needs:
            roles["teacher"] = self.dataset("teacher", None, {})
        if run.needs & {SAMPLES, CREDIT}:
            for place, (policy, recipe, after) in enumerate(policies):
                found = self.samples(policy, CREDIT in run.needs, recipe, after)
                roles |= {role if not place else f"{role}.{place}": stage for role, stage in found.items()}
        return roles

    def dataset(self, name: str, run: Run | None, roles: Mapping[str, str], after: str | None = None) -> str:
        """The data set of a run; without one, the teacher's solutions."""
        method = run.method if run else find("sft")
        data = run.data if run else method.data()
        settings = data.model_dump(mode="json") | {"method": method.name} | self.seeded
        inputs = {"problems": self.source, "held_out": "problems", **roles}
        options = {"method": method, "data": data}
        return self.add(f"datasets/{name}", "app.datasets.stage", settings, inputs, after=after, **options)

    def train(
        self, name: str, run: Run, dataset: str, start: str, after: str | None = None, reference: str | None = None
    ) -> str:
        assert run.training
        settings = run.training.model_dump(mode="json", exclude=HOW) | self.seeded
        settings = {name: value for name, value in settings.items() if LATER.get(name) != value}
        if run.training.weight_decay:
            settings["decays"] = "matrices"
        inputs = {"dataset": dataset} | self.role("start", start, settings)
        if reference and isinstance(run.training, ReferenceSettings):
            inputs |= self.role("reference", reference, settings)
        options: dict[str, Any] = {"settings": run.training, "method": run.method.name}
        options |= {"start": self.models.get(start), "reference": self.models.get(reference or "")}
        if run.training.judged:  # what the evaluations depend on decides the weights where they choose among them
            settings |= {"verifier": self.verifier, "max_tokens": self.recipe.evaluation.max_tokens}
            settings |= self.served("evaluation")
            inputs["held_out"] = "problems"
            options["evaluator"] = "app.evaluation.during"
        module = "app.training.launch"
        return self.add(f"training/{name}", module, settings, inputs, after=after, passes=bool(after), **options)

    def role(self, role: str, policy: str, settings: dict[str, Any]) -> dict[str, str]:
        """A policy as an input in a role; a model of the recipe enters the settings instead."""
        if policy in self.models:
            settings[role] = self.prints[policy]
            return {}
        return {role: self.newest[policy]}

    def served(self, role: EngineRole) -> dict[str, Any]:
        """What of a placement decides what an engine writes: where it cuts, and in which numbers it works."""
        place = self.recipe.placement.engines(role)
        numbers = {"quantization": place.quantization, "kv_cache_dtype": place.kv_cache_dtype}
        told = {name: value for name, value in numbers.items() if value not in (None, "auto")}
        return {"max_model_len": place.max_model_len, "dtype": place.dtype} | told

    # -- what is asked of a policy ------------------------------------------------------------------------------------

    def samples(
        self, policy: str, credit: bool, recipe: Recipe | None = None, after: str | None = None
    ) -> dict[str, str]:
        """Traces of a policy, their verdicts and, where asked for, their step values."""
        recipe = recipe or self.recipe.asked_of(policy)
        assert recipe.sampling
        settings = as_before(recipe.sampling.model_dump(mode="json"), LATER_SAMPLING)
        settings |= self.seeded | self.served("sampling")
        inputs = {"problems": self.source} | self.role("policy", policy, settings)
        more: dict[str, Any] = {"recipe": recipe, "after": after, "policy": self.models.get(policy)}
        if recipe.sampling.stopping:
            settings["verifier"] = self.verifier  # it decides when the quotas are met
        roles = {"sampling": self.add(f"sampling/{policy}", "app.sampling.stage", settings, inputs, **more)}
        judged = {"problems": self.source, **roles}
        verifier = {"verifier": self.verifier}
        name = f"verification/{policy}"
        roles["verification"] = self.add(name, "app.verification.stage", verifier, judged, recipe=recipe, after=after)
        if credit:
            assert recipe.credit
            settings = recipe.credit.deciding() | self.judged | self.served("sampling")
            inputs = judged | {"verification": roles["verification"]} | self.role("policy", policy, settings)
            roles["credit"] = self.add(f"credit/{policy}", "app.credit.stage", settings, inputs, **more)
        return roles

    def evaluation(self, policy: str) -> str:
        settings = self.recipe.evaluation.model_dump(mode="json") | self.judged | self.served("evaluation")
        inputs = {"problems": "problems"} | self.role("policy", policy, settings)
        between = policy in self.newest and policy not in self.recipe.runs  # of a round that is not the last
        after = self.out[self.newest[policy]].after if between else None
        model = self.models.get(policy)
        return self.add(f"evaluation/{policy}", "app.evaluation.stage", settings, inputs, after=after, policy=model)

    def report(self, evaluated: Mapping[str, str], runs: Mapping[str, Run]) -> None:
        settings: dict[str, Any] = {"name": self.recipe.name, "order": self.shown}
        if self.recipe.prices:  # the report shows costs: another price, another report, and nothing else
            settings["prices"] = self.recipe.prices.model_dump(mode="json", exclude={"budget"})
        shown = {
            policy: {"evaluation": stage, "training": self.newest.get(policy)} for policy, stage in evaluated.items()
        }
        inputs = {name: name for name in self.out}
        self.add("report", "app.report.stage", settings, inputs, problems=self.source, shown=shown)
