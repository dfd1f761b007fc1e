"""Where problems come from, and how new ones are written."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from app.settings import ModelSettings, Settings


class WorldSource(Settings):
    """The embedded grade-school world: unlimited seeded word problems (docs/world.md)."""

    kind: Literal["world"] = "world"
    operations: tuple[int, int] = (4, 6)  # fewest and most operations a problem
    distractors: tuple[int, int] = (0, 2)  # facts that do not matter
    amounts: tuple[int, int] = (2, 20)


class FileSource(Settings):
    """JSONL or Parquet files, one a split; GSM8K's own format by default."""

    kind: Literal["file"]
    train: str
    test: str
    validation: str | None = None  # None: held out of the training file, by id
    question_field: str = "question"
    answer_field: str = "answer"
    answer_format: Literal["gsm8k", "boxed", "plain"] = "gsm8k"


class HubSource(Settings):
    """A Hugging Face data set by name, or the path of a local data set folder."""

    kind: Literal["hub"]
    name: str
    config: str | None = None
    revision: str | None = None
    train_split: str = "train"
    test_split: str = "test"
    validation_split: str | None = None
    question_field: str = "question"
    answer_field: str = "answer"
    answer_format: Literal["gsm8k", "boxed", "plain"] = "gsm8k"


Source = Annotated[WorldSource | FileSource | HubSource, Field(discriminator="kind")]


class ProblemsSettings(Settings):
    """How many problems of each split; None takes all a file or data set has."""

    source: Source = WorldSource()
    train: int | None = Field(default=None, ge=0)
    validation: int | None = Field(default=None, ge=0)
    test: int | None = Field(default=None, ge=1)

    @property
    def may_validate(self) -> bool:
        """Whether there are validation problems: asked for by number, or a split that the source itself names."""
        fields = {"world": "", "file": "validation", "hub": "validation_split"}
        named = getattr(self.source, fields[self.source.kind], None)
        return bool(self.validation) or (self.validation is None and named is not None)

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
    weights: ModelSettings


class OpenAIWriter(Settings):
    """Any OpenAI-compatible endpoint; the key is read from the environment variable named here, never stored."""

    kind: Literal["openai"]
    base_url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = Field(default=16, ge=1)


Writer = Annotated[WorldWriter | VllmWriter | OpenAIWriter, Field(discriminator="kind")]


class SynthesisSettings(Settings):
    """New problems and their solutions, written from seed problems by a capable model."""

    writer: Writer = WorldWriter()
    count: int = Field(ge=1)  # problems asked for; fewer remain after the duplicates are dropped
    seeds_per_prompt: int = Field(default=3, ge=1)
    temperature: float = Field(default=0.8, ge=0)
    max_tokens: int = Field(default=768, ge=1)
    near_duplicate: float = Field(default=0.8, gt=0, le=1)  # Jaccard of word 3-grams at and above which one is dropped
    keep_seeds: bool = False  # train on the seed problems as well, where they have a solution
