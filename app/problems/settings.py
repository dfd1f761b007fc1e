"""Where problems come from, and how new ones are written."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from app.settings import ModelSettings, Settings, TemplateArguments


class WorldSource(Settings):
    """The embedded grade-school world: unlimited seeded word problems (docs/world.md)."""

    kind: Literal["world"] = "world"
    operations: tuple[int, int] = (4, 6)  # fewest and most operations a problem
    distractors: tuple[int, int] = (0, 2)  # facts that do not matter
    amounts: tuple[int, int] = (2, 20)  # smallest and largest number in a statement


class FileSource(Settings):
    """JSONL, JSON array, CSV or Parquet files, one a split; GSM8K's own format by default."""

    kind: Literal["file"]
    train: str  # file of training problems: .jsonl, .json, .csv or .parquet
    test: str | None = None  # file of held-out problems; none: evaluation.split must be validation
    validation: str | None = None  # None: held out of the training file, by id
    question_field: str = "question"  # column of the statement
    answer_field: str = "answer"  # column of the answer, or of a solution that ends in it
    # gsm8k: after ####; boxed: in \boxed{}; plain: the whole field
    answer_format: Literal["gsm8k", "boxed", "plain"] = "gsm8k"
    solution_field: str | None = None  # where the solution stands apart from the answer
    on_bad_row: Literal["stop", "skip"] = "stop"  # skip: a row that cannot be used is left out and counted


class HubSource(Settings):
    """A Hugging Face data set by name, or the path of a local data set folder."""

    kind: Literal["hub"]
    name: str  # such as openai/gsm8k, or a folder
    config: str | None = None  # of the data set, where it has several
    revision: str | None = None  # branch, tag or commit; none: main
    train_split: str = "train"  # split of training problems
    test_split: str | None = "test"  # split of held-out problems; none: evaluation.split must be validation
    validation_split: str | None = None  # none: held out of the training split, by id
    question_field: str = "question"  # column of the statement
    answer_field: str = "answer"  # column of the answer, or of a solution that ends in it
    # gsm8k: after ####; boxed: in \boxed{}; plain: the whole field
    answer_format: Literal["gsm8k", "boxed", "plain"] = "gsm8k"
    solution_field: str | None = None  # where the solution stands apart from the answer
    on_bad_row: Literal["stop", "skip"] = "stop"  # skip: a row that cannot be used is left out and counted


Source = Annotated[WorldSource | FileSource | HubSource, Field(discriminator="kind")]


class ProblemsSettings(Settings):
    """How many problems of each split; None takes all a file or data set has."""

    source: Source = WorldSource()
    train: int | None = Field(default=None, ge=0)  # problems to learn from
    validation: int | None = Field(default=None, ge=0)  # held-out problems that training may look at
    test: int | None = Field(default=None, ge=1)  # held-out problems of the final evaluation

    @property
    def may_validate(self) -> bool:
        """Whether there are validation problems: asked for by number, or a split that the source itself names."""
        fields = {"world": "", "file": "validation", "hub": "validation_split"}
        named = getattr(self.source, fields[self.source.kind], None)
        return bool(self.validation) or (self.validation is None and named is not None)

    @property
    def may_test(self) -> bool:
        """Whether there are test problems: the world makes them, another source must name them."""
        fields = {"world": "kind", "file": "test", "hub": "test_split"}
        return getattr(self.source, fields[self.source.kind]) is not None

    @model_validator(mode="after")
    def _world_needs_counts(self) -> ProblemsSettings:
        if self.source.kind == "world" and None in (self.train, self.validation, self.test):
            raise ValueError("the world is unlimited: give problems.train, problems.validation and problems.test")
        return self


class WorldWriter(Settings):
    """The world itself writes problems and its teacher solves them, in a stated style (docs/world.md)."""

    kind: Literal["world"] = "world"
    careful: float = Field(default=0.3, ge=0, le=1)  # share of solutions with one operation a line throughout
    merge: tuple[float, float, float] = (0.2, 0.5, 0.3)  # weights of 1, 2, 3 operations a line in the others


class VllmWriter(Settings):
    """A capable model, served by vLLM actors of this run."""

    kind: Literal["vllm"]
    weights: ModelSettings  # the model that writes
    template_arguments: TemplateArguments = Field(default_factory=dict)  # of its chat template: enable_thinking: false


class OpenAIWriter(Settings):
    """Any OpenAI-compatible endpoint; the key is read from the environment variable named here, never stored."""

    kind: Literal["openai"]
    base_url: str  # of the endpoint, with its /v1
    model: str  # the endpoint's name for it
    api_key_env: str = "OPENAI_API_KEY"  # name of the environment variable that holds the key
    concurrency: int = Field(default=16, ge=1)  # requests at once
    template_arguments: TemplateArguments = Field(default_factory=dict)  # sent as chat_template_kwargs, where not empty


Writer = Annotated[WorldWriter | VllmWriter | OpenAIWriter, Field(discriminator="kind")]


class VoteSettings(Settings):
    """How the reference answer of a new problem is found (app/problems/vote.py)."""

    solutions: int = Field(default=8, ge=1)  # at most; fewer are drawn where they decide
    agreement: float | None = Field(
        default=0.6, gt=0, le=1
    )  # share of `solutions` that must have one answer; None where `margin` is given
    margin: int | None = Field(default=None, ge=1)  # instead: votes ahead of the next answer that end the vote
    temperature: float = Field(default=0.7, ge=0)  # of the solutions
    max_tokens: int | None = Field(default=None, ge=1)  # of one solution; None: synthesis.max_tokens
    kept: int = Field(default=1, ge=1)  # distinct agreeing solutions that become the teacher's

    @model_validator(mode="before")
    @classmethod
    def _margin_instead(cls, body: Any) -> Any:
        given = isinstance(body, dict) and body.get("margin") is not None and "agreement" not in body
        return body | {"agreement": None} if given else body

    @model_validator(mode="after")
    def _one_rule(self) -> VoteSettings:
        if (self.agreement is None) == (self.margin is None):
            raise ValueError("give agreement or margin, one of the two")
        if self.margin is not None and self.margin > self.solutions:
            raise ValueError(f"margin {self.margin} cannot be reached with {self.solutions} solutions; raise solutions")
        return self


class DifficultySettings(Settings):
    """How often a policy solves a problem by itself: asked of every new problem, and of seeds for `from_failures`."""

    policy: str = "base"  # or one of `models`: those that are there before anything is trained
    rollouts: int = Field(default=8, ge=1)  # solutions drawn of each problem
    temperature: float = Field(default=1.0, ge=0)  # of them
    max_tokens: int = Field(default=512, ge=1)  # of one
    keep: tuple[float, float] | None = None  # lowest and highest solve rate of a problem that is kept; None: all

    @field_validator("keep")
    @classmethod
    def _band(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 <= value[0] <= value[1] <= 1:
            raise ValueError("give the lowest and the highest solve rate, such as [0.1, 0.9]")
        return value


class SynthesisBudget(Settings):
    """Where writing ends though `count` is not reached. Finished shards count, not those that a stop cut short."""

    attempts: float = Field(default=4, ge=1)  # a problem wanted
    requests: int | None = Field(default=None, ge=1)  # to the writer, in all
    tokens: int | None = Field(default=None, ge=1)  # read and written; the last attempts may pass it by a little


class DecontaminationSettings(Settings):
    """What a new problem must not repeat beside the recipe's own evaluation problems, and what counts as repeating
    (app/problems/contamination.py).
    """

    lists: dict[str, str] = Field(default_factory=dict)  # more evaluation problems: a name, and a file
    ngrams: dict[int, float] = Field(
        default_factory=lambda: {8: 0.5, 12: 0.3}
    )  # words an n-gram -> least share of an evaluation problem's words that shared n-grams cover
    mask_numbers: bool = False  # for n-grams all numbers are one: finds problems whose numbers alone were changed

    @field_validator("lists")
    @classmethod
    def _names(cls, value: dict[str, str]) -> dict[str, str]:
        if own := {"validation", "test"} & value.keys():
            raise ValueError(f"{min(own)}: the recipe's own evaluation problems have that name; choose another")
        return value

    @field_validator("ngrams")
    @classmethod
    def _shares(cls, value: dict[int, float]) -> dict[int, float]:
        if any(size < 2 or not 0 < least <= 1 for size, least in value.items()):
            raise ValueError("give n-grams of two words or more and shares above 0 up to 1, such as {8: 0.5}")
        return value


class MinHashSettings(Settings):
    """Near duplicates among millions of problems (app/problems/minhash.py). The defaults are datatrove's."""

    words: int = Field(default=5, ge=1)  # of an n-gram
    bands: int = Field(default=14, ge=1)  # more find more that is less alike
    rows: int = Field(default=8, ge=1)  # of a band; more find less that is less alike


class SynthesisSettings(Settings):
    """New problems and their solutions, written from seed problems by a capable model."""

    writer: Writer = WorldWriter()
    count: int = Field(ge=1)  # new problems wanted: what is dropped is replaced, within the budget
    # how new problems are written, with weights: app/problems/strategies.py
    strategies: dict[str, float] = Field(default_factory=lambda: {"similar": 1.0})
    seeds_per_prompt: int = Field(default=3, ge=1)  # seed problems shown to the writer at a time
    check: bool = True  # the writer looks over its own draft, and mends or withdraws it, before it is solved
    temperature: float = Field(default=0.8, ge=0)  # of drafts
    max_tokens: int = Field(default=768, ge=1)  # of one answer, a thinking model's reasoning included
    vote: VoteSettings = VoteSettings()
    budget: SynthesisBudget = SynthesisBudget()
    difficulty: DifficultySettings | None = None
    near_duplicate: float = Field(default=0.8, gt=0, le=1)  # Jaccard of word 3-grams from which on one is dropped
    minhash: MinHashSettings | None = None  # in place of `near_duplicate` for seeds and each other: for millions
    decontamination: DecontaminationSettings = DecontaminationSettings()
    keep_seeds: bool = False  # train on the seed problems as well, where they have a solution

    @field_validator("strategies")
    @classmethod
    def _weights(cls, value: dict[str, float]) -> dict[str, float]:
        if not value or min(value.values()) < 0 or sum(value.values()) <= 0:
            raise ValueError("give at least one strategy with a weight above 0, such as {similar: 1}")
        return value
