"""A group of settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A group of fields; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
