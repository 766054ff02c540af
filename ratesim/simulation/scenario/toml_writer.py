"""Write a model as TOML that people read: what was given, with its units, and once for each key what it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tomli_w
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ratesim.simulation.scenario.fields import NoneAs, unit_of

__all__ = ["comment_of", "toml_text", "toml_value", "with_comment"]

WIDTH = 120  # of a line; a longer comment stands above its key
MOST_WHOLE = 1e15  # a larger number is written as a float


def toml_text(model: BaseModel, always: frozenset[str] = frozenset()) -> str:
    """Write a model as a TOML document.

    Parameters
    ----------
    model : BaseModel
        What is written. Its nested models become tables, and tuples of them arrays of tables.
    always : frozenset[str]
        Fields that are written also where nobody gave them, by their place: "deployment.nodes". Any other field that nobody
        gave is left out, as is None.
    """
    return "\n".join(_lines(model, (), always, set())).strip("\n") + "\n"


def toml_value(value: Any) -> str:
    """Write a value on one line. What does not print is escaped."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, float) and value.is_integer() and abs(value) < MOST_WHOLE:
        value = int(value)
    text = tomli_w.dumps({"a": value}).removeprefix("a = ").removesuffix("\n")
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in text)


def comment_of(model: type[BaseModel], name: str) -> str:
    """Return what a key is, without a full stop."""
    return (model.model_fields[name].description or "").removesuffix(".")


def _lines(model: BaseModel, place: tuple[str, ...], always: frozenset[str], told: set[tuple[type, str]]) -> Iterator[str]:
    kind = type(model)
    tables: list[tuple[str, BaseModel | dict[str, Any]]] = []
    for name, field in kind.model_fields.items():
        value, inner = getattr(model, name), ".".join((*place, name))
        if isinstance(value, BaseModel | dict):
            tables.append((f"[{inner}]", value))
        elif isinstance(value, tuple) and any(isinstance(each, BaseModel) for each in value):
            tables += [(f"[[{inner}]]", each) for each in value]
        elif (value, field.default) != ((), ()) and (name in model.model_fields_set or inner in always):
            text = _text(field, value)
            if text is not None:
                yield from with_comment(f"{name} = {text}", "" if (kind, name) in told else comment_of(kind, name))
                told.add((kind, name))
    for head, value in tables:
        if isinstance(value, dict):
            lines = [f"{_key(name)} = {toml_value(each)}" for name, each in value.items()]
        else:
            lines = list(_lines(value, (*place, head.strip("[]").rpartition(".")[2]), always, told))
        if lines:
            yield from ("", head, *lines) if lines[0] else lines  # of a table that only holds tables the head is not needed


def _text(field: FieldInfo, value: Any) -> str | None:
    """Write the value of a field; None where nothing has to be said."""
    if value is None:
        return next((toml_value(each.word) for each in field.metadata if isinstance(each, NoneAs)), None)
    unit = unit_of(field)
    return toml_value(value if unit is None else unit.write(value))


def _key(name: str) -> str:
    return tomli_w.dumps({name: 0}).removesuffix(" = 0\n")


def with_comment(text: str, comment: str) -> list[str]:
    """Put a comment behind a line, or above it where both are too long."""
    if not comment:
        return [text]
    line = f"{text}  # {comment}"
    return [line] if len(line) <= WIDTH else [f"# {comment}", text]
