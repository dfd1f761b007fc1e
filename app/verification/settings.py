"""What a run asks of the references its traces are judged against."""

from __future__ import annotations

from pydantic import Field

from app.settings import Settings


class VerificationSettings(Settings):
    """Stops a stage early; where it does not stop, it changes nothing that is written, so it enters no key."""

    bad_references: float = Field(default=0.01, ge=0, le=1)  # largest share of references that cannot be read
