"""Who judges a run's traces, and what is asked of the references they are judged against."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from app.settings import Settings

BUILT_IN, MATH_VERIFY = "built-in", "math-verify"


class LlmJudge(Settings):
    """A model behind an OpenAI-compatible endpoint that says whether two answers are the same."""

    base_url: str = Field(pattern=r"^https?://")  # with its /v1
    model: str  # the endpoint's name for it
    when: Literal["always", "unread"] = "unread"  # unread: only what the verifier cannot read
    api_key_env: str = "OPENAI_API_KEY"  # name of the environment variable that holds the key
    concurrency: int = Field(default=16, ge=1)  # a worker
    timeout: float = Field(default=120, gt=0)  # seconds, a request
    tokens: int | None = Field(default=None, ge=1)  # most tokens read and written by one worker in one session


class VerificationSettings(Settings):
    """The verifier by name: `built-in`, `math-verify`, or a class of your own, `my_grader:Grader`."""

    # built-in, math-verify, or module:Class of yours
    verifier: str = Field(default=BUILT_IN, pattern=rf"^({BUILT_IN}|{MATH_VERIFY}|[\w.]+:\w+)$")
    options: dict[str, Any] = Field(default_factory=dict)  # arguments of a class of your own
    llm: LlmJudge | None = None  # a model that judges too
    bad_references: float = Field(default=0.01, ge=0, le=1)  # largest share of references that cannot be read
