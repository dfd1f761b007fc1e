"""Methods: what a trained run learns from, and by which loss. One entry each; a recipe's `plugins` may add more.

    from app.methods import Method, register

    register(Method("mine", "my own", "my_package.rows:build", MySettings, TrainSettings))

in a module that the recipe names under `plugins`, and a run may say `method: mine`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from app.datasets.settings import (
    AdvantageNllSettings,
    AdvantageSftSettings,
    DpoSettings,
    LabelledStepsSettings,
    LabelledTracesSettings,
    PrmSettings,
    RftSettings,
    SftSettings,
    StepDpoSettings,
)
from app.errors import UserError, nearest
from app.settings import Settings
from app.training.settings import BceSettings, KtoSettings, NegativesSettings, PreferenceSettings, TrainSettings

TEACHER, SAMPLES, CREDIT = "teacher", "samples", "credit"  # what a data set may need


def _samples(_: Any) -> frozenset[str]:
    return frozenset({SAMPLES})


def _credit(_: Any) -> frozenset[str]:
    return frozenset({SAMPLES, CREDIT})


@dataclass(frozen=True)
class Method:
    """A kind of run.

    The settings of its data set and of its training have no name in common: a run gives both in one mapping.
    """

    name: str
    title: str  # as tables and figures call it
    builder: str  # "module:function", called with app.datasets.sources.Sources and `data`; yields tables and counts
    data: type[Settings]
    training: type[TrainSettings] | None  # None: the data set is all that is made
    needs: Callable[[Any], frozenset[str]] = _samples  # of TEACHER, SAMPLES and CREDIT, for given data settings
    colour: tuple[str, str] = ("", "")  # CSS colours on light and on dark; none: the next of the palette
    empty: str = "no row could be made; raise sampling.samples"  # what to do where the data set stays empty

    def build(self) -> Callable[..., Iterable[Any]]:
        """The builder itself. Raises UserError where there is none."""
        module, _, name = self.builder.partition(":")
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise UserError(f"method {self.name}: its builder {self.builder} cannot be imported: {error}") from error
        return found


METHODS: dict[str, Method] = {}


def register(method: Method) -> Method:
    """Add a method. Raises UserError where its name is taken by another, or its settings share a name."""
    known = METHODS.get(method.name)
    if known is not None and known != method:
        raise UserError(f"method {method.name}: there is one of that name already; choose another")
    both = set(method.data.model_fields) & set(method.training.model_fields if method.training else ())
    if both:
        raise UserError(f"method {method.name}: its data set and its training both have a setting {min(both)}")
    METHODS[method.name] = method
    return method


def find(name: str) -> Method:
    """A method by its name. Raises UserError with the nearest known one."""
    if name not in METHODS:
        raise UserError(f"no such method: {name}{nearest(name, list(METHODS))}")
    return METHODS[name]


def load_plugins(modules: Iterable[str]) -> None:
    """Import modules that register methods. Raises UserError where one cannot be imported."""
    for name in modules:
        try:
            import_module(name)
        except ImportError as error:
            raise UserError(
                f"plugins: {name} cannot be imported ({error}); put it beside the job, or into its working directory"
            ) from error


def _rft_needs(data: RftSettings) -> frozenset[str]:
    wanted = {SAMPLES} | ({TEACHER} if data.teacher else set()) | ({CREDIT} if data.needs_credit else set())
    return frozenset(wanted)


_NO_GOOD_STEP = (
    "Credit found no step of enough advantage; lower the run's min_advantage, or look at more steps: credit.search: "
    "exhaustive, credit.correct_traces, credit.traces_per_problem"
)

_NO_TRACE = "No sampled trace came to its own end and could be judged; raise sampling.max_tokens or sampling.samples"

for _method in (
    Method(
        "sft",
        "SFT",
        "app.datasets.builders:sft",
        SftSettings,
        TrainSettings,
        lambda _: frozenset({TEACHER}),
        ("#0b6bb0", "#5aaee8"),
        "No training problem has a solution; give a source with solutions, or a synthesis part, or train RFT on the "
        "policy's own traces alone (teacher: false)",
    ),
    Method(
        "rft",
        "RFT",
        "app.datasets.builders:rft",
        RftSettings,
        TrainSettings,
        _rft_needs,
        ("#0a8a66", "#3fc49a"),
        "No sampled trace is correct; raise sampling.samples or start from a better policy",
    ),
    Method(
        "dpo",
        "DPO",
        "app.datasets.builders:dpo",
        DpoSettings,
        PreferenceSettings,
        _samples,
        ("#a8509c", "#d98fce"),
        "No problem has a correct and a wrong trace; raise sampling.samples or change its temperature",
    ),
    Method(
        "step_dpo",
        "per-step DPO",
        "app.datasets.builders:step_dpo",
        StepDpoSettings,
        PreferenceSettings,
        _credit,
        ("#c8541a", "#ff9355"),
        "No first pit has enough value before it and a correct continuation; raise sampling.samples, "
        "credit.rollouts or credit.traces_per_problem, or lower the run's min_q_before",
    ),
    Method(
        "advantage_sft",
        "advantage-filtered SFT",
        "app.datasets.builders:advantage_sft",
        AdvantageSftSettings,
        TrainSettings,
        _credit,
        ("#6d5bd0", "#ab9ff2"),
        _NO_GOOD_STEP,
    ),
    Method(
        "advantage_nll",
        "advantage-weighted NLL",
        "app.datasets.builders:advantage_nll",
        AdvantageNllSettings,
        TrainSettings,
        _credit,
        ("#a03c4f", "#ec93a3"),
        _NO_GOOD_STEP,
    ),
    Method(
        "kto",
        "KTO",
        "app.datasets.builders:labelled_traces",
        LabelledTracesSettings,
        KtoSettings,
        _samples,
        ("#6b7a00", "#b7c73d"),
        _NO_TRACE,
    ),
    Method(
        "negatives",
        "negative samples",
        "app.datasets.builders:labelled_traces",
        LabelledTracesSettings,
        NegativesSettings,
        _samples,
        ("#3c5a78", "#93b4d4"),
        _NO_TRACE,
    ),
    Method(
        "step_bce",
        "step BCE",
        "app.datasets.builders:labelled_steps",
        LabelledStepsSettings,
        BceSettings,
        _credit,
        ("#1b8fa6", "#62c8dc"),
        "Credit labelled no step: no problem has a correct and a wrong trace, or no first step's value is known; raise "
        "sampling.samples or credit.rollouts",
    ),
    Method(
        "prm",
        "step labels",
        "app.datasets.builders:prm",
        PrmSettings,
        None,
        _credit,
        empty="Credit looked at no trace: no problem has a correct and a wrong one; raise sampling.samples",
    ),
):
    register(_method)
