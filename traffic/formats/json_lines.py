"""JSON lines: one JSON object on each line. A field is a name, or a path of names with dots: "user.id".

A field that has just that name, dots and all, goes before a path. A line that is no object is no request.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from traffic.formats.field_selection import FieldSelection
from traffic.formats.named_fields import FieldReader
from traffic.formats.rows import Rows

# The names of fields that a complaint lists, and that are looked through for the time, are those of these many lines.
FIRST_OBJECTS = 100
MAX_NAMES = 1000


class JSONLines:
    """Reads JSON lines. Keys and costs are of any fields; a session is a key."""

    def __init__(self, selection: FieldSelection) -> None:
        self._selection = selection
        self._fields: FieldReader | None = None

    def recognizes(self, line: str) -> bool:
        """Tell whether the line is a JSON object."""
        return _object(line) is not None

    def read(self, lines: list[str], rows: Rows) -> None:
        """Add a request for each object; report every other line."""
        parsed = [_object(line) for line in lines]
        objects = [value for value in parsed if value is not None]
        for line, value in zip(lines, parsed, strict=True):
            if value is None:
                rows.skip(line)
        if not objects:
            return
        first = self._fields is None
        self._fields = fields = self._fields or FieldReader(self._selection, _names(objects[:FIRST_OBJECTS]))
        columns = {name: _column(name, objects) for name in fields.needed}
        if first:
            # A field of the key may be rare (users that log in), and is looked for to the end.
            present = [name for name, values in columns.items() if any(value is not None for value in values)]
            fields.check(present, (name for name in fields.selected if name == fields.time or name not in fields.key))
        read = [i for i, value in enumerate(parsed) if value is not None]
        fields.add(columns, [lines[i] for i in read], np.array(read) + rows.line, rows)

    def close(self, rows: Rows) -> None:
        """Close the fields; nothing is held back."""
        if self._fields is not None:
            self._fields.close(rows)


def _object(line: str) -> dict[str, Any] | None:
    if not line.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):  # the latter of brackets nested thousands deep
        return None
    return value if isinstance(value, dict) else None


def _column(name: str, objects: Sequence[dict[str, Any]]) -> list[Any]:
    """Give the field of each object; None where it has none, and booleans as text, since they are not numbers."""
    values = [value[name] if name in value else _found(name, value) for value in objects]
    return [str(value).lower() if isinstance(value, bool) else value for value in values]


def _found(path: str, value: Any) -> Any:
    for step in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def _names(objects: Sequence[dict[str, Any]]) -> list[str]:
    """List the paths of all fields, in order of appearance; those of an inner object stand in its place."""
    names: dict[str, None] = {}
    left = [("", value) for value in reversed(objects)]
    while left and len(names) < MAX_NAMES:
        path, value = left.pop()
        if isinstance(value, dict):
            left += [(f"{path}.{name}" if path else name, inner) for name, inner in reversed(value.items())]
        else:
            names[path] = None
    return list(names)
