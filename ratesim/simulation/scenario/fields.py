"""Field types of a scenario: unknown keys are errors, and times and shares may be written with their units."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["Moment", "Seconds", "Share", "StrictModel", "seconds", "share"]

_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(value: Any) -> Any:
    """Convert "2ms", "0.5 s", "1h" or a number of seconds to seconds."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:e-?\d+)?)\s*([a-zµ]*)\s*", value)
    if match is None or (match[2] or "s") not in _SECONDS:
        raise ValueError(f"{value!r} is not a time; write 2ms, 0.5s or 1h")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def share(value: Any) -> Any:
    """Convert "1%" or a number such as 0.01 to a share."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", value)
    if match is None:
        raise ValueError(f"{value!r} is not a share; write 1% or 0.01")
    return float(match[1]) / (100 if match[2] else 1)


Seconds = Annotated[float, BeforeValidator(seconds), Field(gt=0, allow_inf_nan=False)]
Moment = Annotated[float, BeforeValidator(seconds), Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, BeforeValidator(share), Field(ge=0, allow_inf_nan=False)]


class StrictModel(BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
