"""A Wish says what of a log's lines is to become the key, the time, the cost and the status of its requests."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from traffic.timestamps import TimeUnit

JOINT = "+"


@dataclass(frozen=True, slots=True)
class FieldSelection:
    """What `read_log` was asked for, as it was written; None leaves the choice to the format.

    key        a field, or several joined: "client+endpoint"
    time       the field that holds the time
    time_unit  what it holds: seconds, milli-, micro- or nanoseconds since the epoch, or ISO 8601 text
    cost       a field, or arithmetic over several (`traffic.expression`)
    status     the field that holds what was answered
    """

    key: str | None = None
    time: str | None = None
    time_unit: TimeUnit | None = None
    cost: str | None = None
    status: str | None = None

    def key_fields(self, known: Collection[str]) -> tuple[str, ...]:
        """The fields that make the key, none if none was wished. A field may have a plus in its own name."""
        if self.key is None:
            return ()
        if self.key in known:
            return (self.key,)
        return tuple(part.strip() for part in self.key.split(JOINT))


def joined(columns: Sequence[Sequence[str]]) -> Iterable[str]:
    """One name for each row of the columns: the one value, or the values with a plus between.

    Different rows keep different names: a plus inside a value becomes backslash plus, a backslash two.
    """
    if len(columns) == 1:
        return columns[0]
    return map(JOINT.join, zip(*map(_escaped, columns), strict=True))


def _escaped(values: Sequence[str]) -> list[str]:
    return [
        value.replace("\\", "\\\\").replace(JOINT, f"\\{JOINT}") if JOINT in value or "\\" in value else value
        for value in values
    ]
