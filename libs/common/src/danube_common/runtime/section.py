"""A group of settings, and settings that are times."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

SECONDS_MIN: Final = 0.01
"""The shortest interval or deadline: with a shorter one a loop only loops, and nothing ends in time."""


def _check_interval(seconds: float) -> float:
    if 0 != seconds < SECONDS_MIN:
        raise ValueError(f"must be 0, which is off, or a number of at least {SECONDS_MIN}")
    return seconds


Seconds = Annotated[float, Field(ge=SECONDS_MIN)]
"""An interval or a deadline. A delay is none: it may be 0."""

OptionalInterval = Annotated[float, AfterValidator(_check_interval)]
"""An interval; 0 is off."""


class Section(BaseModel):
    """A group of fields; unknown fields are refused, and numbers without end."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)
