"""A recipe as a list of stages in order: what each reads, and which settings decide its result."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from app.errors import UserError
from app.policy import base_policy, file_digest
from app.recipe import Recipe
from app.stage import Stage, StageContext
from app.verification import fingerprint

METHODS = ("sft", "rft", "dpo", "step_dpo")

# Bumped by hand when the meaning of a stage's output changes; the code itself is not part of any key.
REVISIONS = {
    "problems": 2,
    "synthesis": 1,
    "datasets": 3,
    "training": 2,
    "sampling": 2,
    "verification": 2,
    "credit": 3,
    "evaluation": 2,
    "report": 4,
}


def build(recipe: Recipe) -> list[Stage]:
    """All stages of a recipe, inputs before the stages that read them. Raises UserError where parts do not fit."""
    check(recipe)
    return _Builder(recipe).stages()


def check(recipe: Recipe) -> None:
    """Parts of a recipe that need each other."""
    training, sampling, rft = recipe.training, recipe.sampling, recipe.datasets.rft
    held_out = recipe.problems.may_validate
    right = recipe.credit.correct_traces if recipe.credit else 0
    needs = [
        (recipe.credit and not sampling, "credit needs sampling: add a sampling part"),
        (sampling and sampling.policy == "sft" and not training.sft, "sampling.policy is sft: add training.sft"),
        (training.rft and not sampling, "training.rft needs sampling: add a sampling part"),
        (training.dpo and not sampling, "training.dpo needs sampling: add a sampling part"),
        (training.step_dpo and not recipe.credit, "training.step_dpo needs credit: add a credit part"),
        (recipe.datasets.prm and not recipe.credit, "datasets.prm needs credit: add a credit part"),
        (rft.drop_lucky_wrong and not right, "datasets.rft.drop_lucky_wrong: set credit.correct_traces above 0"),
        (rft.max_no_progress < 1 and not right, "datasets.rft.max_no_progress: set credit.correct_traces above 0"),
    ]
    unheld = recipe.evaluation.split == "validation" and not held_out
    needs.append((unheld, "evaluation.split is validation: no validation problems; raise problems.validation"))
    for method in METHODS:
        settings = getattr(training, method)
        if settings is None:
            continue
        needs.append((settings.init == method, f"training.{method}.init cannot be {method} itself"))
        missing = settings.init != "base" and getattr(training, settings.init) is None
        needs.append((missing, f"training.{method}.init is {settings.init}: add training.{settings.init}"))
        lora = getattr(training, settings.init).lora if settings.init != "base" and not missing else None
        alone = bool(lora and not lora.merge)
        told = f"training.{method} starts from it, and training starts from whole weights; merge it"
        needs.append((alone, f"training.{settings.init}.lora.merge is false: {told}"))
        unasked = bool(settings.evaluate_every) and not held_out
        needs.append((unasked, f"training.{method}.evaluate_every: no validation problems; raise problems.validation"))
    if training.sft and training.rft and training.sft.init == "rft":
        needs.append((True, "training.sft.init cannot be rft: RFT samples from the SFT policy"))
    for wrong, message in needs:
        if wrong:
            raise UserError(f"recipe {recipe.name}: {message}")


def _lazy(module: str) -> Callable[[StageContext], None]:
    """A stage's run function, imported when it runs, so that planning needs no engine."""

    def run(context: StageContext) -> None:
        import_module(module).run(context)

    return run


class _Builder:
    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.base = base_policy(recipe.model).fingerprint
        self.rendering = recipe.rendering.model_dump(mode="json")
        self.source = "synthesis" if recipe.synthesis else "problems"

    def stages(self) -> list[Stage]:
        out = [self.problems()]
        if self.recipe.synthesis:
            out.append(self.synthesis())
        trained = [m for m in METHODS if getattr(self.recipe.training, m)]
        if "sft" in trained or ("rft" in trained and self.recipe.datasets.rft.teacher):
            out.append(self.dataset("sft"))
        if "sft" in trained:
            out.append(self.train("sft"))
        if self.recipe.sampling:
            out += [self.sampling(), self.verification()]
        if self.recipe.credit:
            out.append(self.credit())
            if self.recipe.datasets.prm:
                out.append(self.dataset("prm"))
        for method in trained:
            if method != "sft":
                out += [self.dataset(method), self.train(method)]
        out += [self.evaluation(method) for method in ("base", *trained)]
        out.append(self.report(out))
        return out

    def stage(self, name: str, module: str, settings: dict[str, Any], inputs: list[str], **options: Any) -> Stage:
        unique = tuple(dict.fromkeys(inputs))
        return Stage(name, _lazy(module), settings, unique, REVISIONS[name.partition("/")[0]], options)

    def problems(self) -> Stage:
        settings = self.recipe.problems.model_dump(mode="json")
        source = self.recipe.problems.source
        if source.kind == "file":  # what is in the files decides, not where they lie
            paths = {split: getattr(source, split) for split in ("train", "validation", "test")}
            settings["source"] |= {split: file_digest(path) if path else None for split, path in paths.items()}
        settings["seed"] = self.recipe.seed
        return self.stage("problems", "app.problems.stage", settings, [])

    def synthesis(self) -> Stage:
        assert self.recipe.synthesis
        settings = self.recipe.synthesis.model_dump(mode="json") | {"seed": self.recipe.seed}
        for address in ("base_url", "concurrency", "api_key_env"):
            settings["writer"].pop(address, None)
        if self.recipe.synthesis.writer.kind == "vllm":
            settings["writer"]["weights"] = base_policy(self.recipe.synthesis.writer.weights).fingerprint
        return self.stage("synthesis", "app.problems.synthesis_stage", settings, ["problems"])

    def dataset(self, method: str) -> Stage:
        if method == "sft":
            settings = {"base": self.base, "rendering": self.rendering}
            return self.stage(
                "datasets/sft", "app.datasets.stage", settings, [self.source, "problems"], problems=self.source
            )
        settings = getattr(self.recipe.datasets, method).model_dump(mode="json")
        settings |= {"base": self.base, "rendering": self.rendering, "seed": self.recipe.seed}
        inputs = [self.source, "problems", "sampling", "verification"]
        if method == "rft" and self.recipe.datasets.rft.teacher:
            inputs.append("datasets/sft")
        if method in ("step_dpo", "prm") or (method == "rft" and self.recipe.datasets.rft.needs_credit):
            inputs.append("credit")
        return self.stage(
            f"datasets/{method}", "app.datasets.stage", settings, inputs, problems=self.source, sft="datasets/sft"
        )

    def train(self, method: str) -> Stage:
        part = getattr(self.recipe.training, method)
        policy = "base" if part.init == "base" else f"training/{part.init}"
        settings = part.model_dump(mode="json") | {"base": self.base, "seed": self.recipe.seed}
        inputs = [f"datasets/{method}"] + ([policy] if policy != "base" else [])
        options = {"dataset": f"datasets/{method}", "policy": policy}
        if part.evaluate_every:  # what the evaluations depend on decides the weights where they stop the run early
            settings |= {"rendering": self.rendering, "verifier": fingerprint()}
            settings["max_tokens"] = self.recipe.evaluation.max_tokens
            inputs.append("problems")
            options["evaluator"] = "app.evaluation.during"
        return self.stage(f"training/{method}", "app.training.launch", settings, inputs, **options)

    def sampling(self) -> Stage:
        assert self.recipe.sampling
        policy = "base" if self.recipe.sampling.policy == "base" else "training/sft"
        settings = self.recipe.sampling.model_dump(mode="json")
        settings |= {"base": self.base, "rendering": self.rendering, "seed": self.recipe.seed}
        if self.recipe.sampling.until:  # the verdicts decide how many traces are drawn
            settings["verifier"] = fingerprint()
        inputs = [self.source] + ([policy] if policy != "base" else [])
        return self.stage("sampling", "app.sampling.stage", settings, inputs, problems=self.source, policy=policy)

    def verification(self) -> Stage:
        settings = {"verifier": fingerprint()}
        return self.stage(
            "verification", "app.verification.stage", settings, [self.source, "sampling"], problems=self.source
        )

    def credit(self) -> Stage:
        assert self.recipe.credit
        sampling = self.sampling()
        settings = self.recipe.credit.model_dump(mode="json")
        settings |= {
            "base": self.base,
            "rendering": self.rendering,
            "seed": self.recipe.seed,
            "verifier": fingerprint(),
        }
        inputs = [*sampling.inputs, "sampling", "verification"]
        return self.stage("credit", "app.credit.stage", settings, inputs, **sampling.options)

    def evaluation(self, method: str) -> Stage:
        policy = "base" if method == "base" else f"training/{method}"
        settings = self.recipe.evaluation.model_dump(mode="json")
        settings |= {
            "base": self.base,
            "rendering": self.rendering,
            "seed": self.recipe.seed,
            "verifier": fingerprint(),
        }
        inputs = ["problems"] + ([policy] if policy != "base" else [])
        return self.stage(f"evaluation/{method}", "app.evaluation.stage", settings, inputs, policy=policy)

    def report(self, stages: list[Stage]) -> Stage:
        settings: dict[str, Any] = {"name": self.recipe.name}
        if self.recipe.prices:  # the report shows costs: another price, another report, and nothing else
            settings["prices"] = self.recipe.prices.model_dump(mode="json")
        return self.stage("report", "app.report.stage", settings, [s.name for s in stages], problems=self.source)
