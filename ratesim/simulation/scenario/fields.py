"""Field types of a scenario: unknown keys are errors, and times and shares may be written with their units."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ratesim.durations import LONGEST, NUMBER, parse_duration
from ratesim.safe_text import shorten_repr

__all__ = ["Moment", "Seconds", "Share", "StrictModel", "seconds", "share"]

_SHARE = re.compile(rf"\s*({NUMBER})\s*(%|percent)?\s*", re.IGNORECASE)


def seconds(value: Any) -> Any:
    """Convert "2ms", "0.5 s", "1h" or a number of seconds to seconds."""
    return parse_duration(value) if isinstance(value, str) else value


def share(value: Any) -> Any:
    """Convert "1%" or a number such as 0.01 to a share."""
    if not isinstance(value, str):
        return value
    match = _SHARE.fullmatch(value) if len(value) <= LONGEST else None
    if match is None or not math.isfinite(float(match[1])):
        raise ValueError(f"{shorten_repr(value)} is not a share; write 1% or 0.01")
    return float(match[1]) / (100 if match[2] else 1)


Seconds = Annotated[float, BeforeValidator(seconds), Field(gt=0, allow_inf_nan=False)]
Moment = Annotated[float, BeforeValidator(seconds), Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, BeforeValidator(share), Field(ge=0, allow_inf_nan=False)]


class StrictModel(BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
