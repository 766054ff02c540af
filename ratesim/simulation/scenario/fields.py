"""Field types of a scenario: unknown keys are errors, and times and shares are written with their units.

A text needs a unit ("2ms", "1%"), and so does a value in a file. A number that Python code gives is in seconds, or a share
of 1. Zero is the same in every unit and needs none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from ratesim.durations import LONGEST, NUMBER, format_decimal, parse_decimal, parse_duration, write_duration
from ratesim.safe_text import shorten_repr

__all__ = [
    "FROM_FILE",
    "Moment",
    "NoneAs",
    "Seconds",
    "Share",
    "StrictModel",
    "Unit",
    "inner_model",
    "seconds",
    "share",
    "unit_of",
    "write_share",
]

FROM_FILE = {"numbers need units": True}  # the context of a validation
_SHARE = re.compile(rf"\s*({NUMBER})\s*(%|percent)?\s*", re.IGNORECASE)
_BARE = re.compile(rf"[+-]?{NUMBER}", re.IGNORECASE)


def seconds(value: Any) -> Any:
    """Convert "2ms", "0.5 s" or "1h" to seconds; a number is taken as seconds. Raises ValueError."""
    if not isinstance(value, str):
        return value
    _require_unit(value, "time")
    return parse_duration(value)


def share(value: Any) -> Any:
    """Convert "1%" to a share; a number is taken as it is. Raises ValueError."""
    if not isinstance(value, str):
        return value
    _require_unit(value, "share")
    match = _SHARE.fullmatch(value) if len(value) <= LONGEST else None
    if match is None or not math.isfinite(float(match[1])):
        raise ValueError(f'{shorten_repr(value)} is not a share; write "1%"')
    return float(parse_decimal(match[1]).scaleb(-2))


def write_share(value: float) -> str:
    """Write a share as a percentage that `share` reads back to the same number: "1%"."""
    return f"{format_decimal(Decimal(repr(float(value))).scaleb(2))}%"


def _require_unit(value: str | float, kind: str) -> None:
    """Raise ValueError for a number without a unit, other than 0."""
    text = value.strip() if isinstance(value, str) else repr(value)
    if len(text) > LONGEST or not _BARE.fullmatch(text) or not math.isfinite(float(text)) or float(text) == 0:
        return
    number = format_decimal(Decimal(text))
    if abs(float(text)) < 1:
        remedy = f'"{write_duration(float(text)) if kind == "time" else write_share(float(text))}"'
    else:
        remedy = f'"{number}ms" or "{number}s"' if kind == "time" else f'"{number}%"'
    raise ValueError(f"{number} has no unit; write {remedy}")


@dataclass(frozen=True)
class Unit:
    """The unit of a field, as a part of its type: how it is read, written and described to an editor.

    Attributes
    ----------
    kind : {"time", "share"}
        What the number is.
    signed : bool
        Whether it may be below 0.
    """

    kind: Literal["time", "share"]
    signed: bool = False

    def read(self, value: Any) -> Any:
        """Convert a text to a number; a number stays. Raises ValueError."""
        read = seconds if self.kind == "time" else share
        if self.signed and isinstance(value, str) and value.lstrip().startswith("-"):
            _require_unit(value, self.kind)
            return -read(value.lstrip()[1:])
        return read(value)

    def write(self, value: float | tuple[float, ...]) -> str | tuple[str, ...]:
        """Write a number with its unit, so that `read` gives the same number; of a tuple each."""
        return tuple(map(self._write, value)) if isinstance(value, tuple) else self._write(value)

    def _write(self, value: float) -> str:
        text = write_duration(abs(value)) if self.kind == "time" else write_share(abs(value))
        return f"-{text}" if value < 0 else text

    def _validate(self, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool):
            raise ValueError(f"{str(value).lower()} is not a {self.kind}")
        if isinstance(value, timedelta) and self.kind == "time":
            return value.total_seconds()
        if info.context == FROM_FILE and isinstance(value, int | float):
            _require_unit(value, self.kind)
        if self.kind == "share" and isinstance(value, int) and abs(value) > 1:  # a number that was read is a float
            raise ValueError(f'{value} is {100 * value}%; write "{value}%" or "{100 * value}%"')
        return self.read(value)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_before_validator_function(self._validate, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        sign = "[+-]?" if self.signed else ""
        number = rf"\s*{sign}(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*"
        unit = r"[A-Za-zµμ].*" if self.kind == "time" else r"(?:%|[Pp][Ee][Rr][Cc][Ee][Nn][Tt])\s*"
        return {"anyOf": [{"type": "string", "pattern": f"^{number}{unit}$"}, {"enum": [0]}]}


@dataclass(frozen=True)
class NoneAs:
    """The word with which a file says None, where to say nothing means something else."""

    word: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda value: None if value == self.word else value, handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [handler(schema), {"enum": [self.word]}]}


Seconds = Annotated[float, Unit("time"), Field(gt=0, allow_inf_nan=False)]
Moment = Annotated[float, Unit("time"), Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Unit("share"), Field(ge=0, allow_inf_nan=False)]


_OF_PYDANTIC = frozenset(dir(BaseModel))


class StrictModel(BaseModel):
    """A frozen model that refuses unknown keys. The docstring of a field is its comment in a file and in an editor."""

    # A storage URL that is refused may hold a password, which an error must not repeat.
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show what was given, without the defaults of the rest."""
        given = self.model_fields_set
        return ((name, value) for name, value in super().__repr_args__() if name in given)

    def __dir__(self) -> list[str]:
        """List the names of the class itself, for completion; those of pydantic can be called all the same."""
        return [name for name in super().__dir__() if name.startswith("_") or name not in _OF_PYDANTIC]


def unit_of(field: FieldInfo) -> Unit | None:
    """Return the unit of a field; None where it has none."""
    return next((each for each in (*field.metadata, *_parts(field.annotation)) if isinstance(each, Unit)), None)


def inner_model(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model that a field holds, alone or in a tuple; None where it holds none."""
    parts = (field.annotation, *_parts(field.annotation))
    return next((each for each in parts if isinstance(each, type) and issubclass(each, BaseModel)), None)


def _parts(annotation: Any) -> Iterator[Any]:
    for each in (*get_args(annotation), *getattr(annotation, "__metadata__", ())):
        yield each
        yield from _parts(each)
