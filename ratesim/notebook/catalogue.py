"""The notebooks that ship with ratesim: where they lie, what each asks, which parameters it takes, and what fits them."""

from __future__ import annotations

import ast
import io
import json
import math
import re
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ratesim.documents import DocumentError, parse_json
from ratesim.errors import RatesimError
from ratesim.notebook.output_dir import OutputError
from ratesim.safe_text import shorten_repr
from ratesim.simulation.scenario.fields import seconds, share
from ratesim.suggestion import unknown_name

__all__ = ["NotebookError", "Parameter", "Value", "find", "given", "literally", "notebooks", "parameters_of", "questions"]

Value: TypeAlias = str | bool | int | float | None
"""What a parameter can be. No lists: what is no plain value need not arrive in a notebook as it was."""

_UNIT = re.compile(r"[0-9.]+(%|ms|s)")  # a default that is a share or a time
_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}


class NotebookError(RatesimError, ValueError):
    """A notebook or a parameter that is not there, or a value that does not fit: one line that says what is known."""


@dataclass(frozen=True)
class Parameter:
    """default: what it is in the notebook. comment: what the notebook says of it, or ""."""

    name: str
    default: Value
    comment: str


def notebooks() -> Path:
    """Return the directory of the notebooks: beside the package in a checkout, within it when installed."""
    package = Path(__file__).resolve().parent.parent
    places = [package.parent / "notebooks", package / "notebooks"]
    for place in places:
        if (place / "recommendation.ipynb").is_file():
            return place
    raise OutputError(f"recommendation.ipynb is in none of {', '.join(map(str, places))}; install ratesim again")


def questions() -> dict[str, str]:
    """Return the question of each notebook, by its name."""
    found = {}
    for path in sorted(notebooks().glob("*.ipynb")):
        first = json.loads(path.read_text("utf-8"))["cells"][0]["source"]
        found[path.stem] = "".join(first).strip().lstrip("# ")
    return found


def find(name: str) -> Path:
    """Return the file of the notebook of that name.

    Raises
    ------
    NotebookError
        There is no such notebook.
    """
    known = questions()
    if name not in known:
        raise NotebookError(unknown_name("notebook", name, known))
    return notebooks() / f"{name}.ipynb"


def parameters_of(path: Path) -> list[Parameter]:
    """List the parameters of a notebook, in its order, without executing it.

    Raises
    ------
    NotebookError
        A line of its parameters is something else than one name, a plain default and a comment.
    """
    cells = json.loads(path.read_text("utf-8"))["cells"]
    source = next(("".join(each["source"]) for each in cells if "parameters" in each["metadata"].get("tags", [])), "")
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {each.start[0]: each.string.lstrip("# ") for each in tokens if each.type == tokenize.COMMENT}
    found = []
    for line in ast.parse(source).body:
        match line:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found.append(Parameter(name, ast.literal_eval(value), comments.get(line.end_lineno or 0, "")))
            case _:
                raise NotebookError(
                    f"{path.name}: {shorten_repr(ast.unparse(line))} sets no parameter; write one name and its default"
                )
    return found


def literally(path: Path) -> str:
    """Escape a path for papermill, which fills parameters into braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def given(pairs: Sequence[tuple[str, str]], known: Sequence[Parameter]) -> dict[str, Value]:
    """Values as they are written on a command line, each of the kind of its parameter's default.

    Numbers, true, false and null are read as in JSON; a parameter whose default is a text takes every value as it is
    written. Raises NotebookError.
    """
    parameters = {each.name: each for each in known}
    values: dict[str, Value] = {}
    for name, text in pairs:
        if name not in parameters:
            raise NotebookError(unknown_name("parameter", name, parameters))
        if name in values:
            raise NotebookError(f"parameter {name}: given twice")
        values[name] = _fitting(parameters[name], text)
    return values


def _fitting(parameter: Parameter, text: str) -> Value:
    kind = type(parameter.default)
    value = text if kind is str else _read(text)
    if isinstance(parameter.default, str) and (unit := _UNIT.fullmatch(parameter.default)):
        try:
            (share if unit[1] == "%" else seconds)(text)
        except ValueError as error:
            raise NotebookError(f"parameter {parameter.name}: {error}") from error
    if kind is float and type(value) is int:
        value = float(value)
    if kind is int and type(value) is float and value.is_integer():
        value = int(value)  # 2e6 is a whole number too
    if kind is type(None) or type(value) is kind:
        return value
    raise NotebookError(
        f"parameter {parameter.name}: {shorten_repr(text)} is not {_KINDS[kind]}, such as {json.dumps(parameter.default)}"
    )


def _read(text: str) -> Value:
    """Read a number, true, false or null as in JSON, without NaN and infinity; else return the text itself."""
    try:
        value = parse_json(text)
    except DocumentError:
        return text
    plain = value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
    return value if plain else text
