"""`FieldSelection`: the fields of a log that become the key, time, cost and status of its requests."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from traffic.timestamps import TimeUnit

JOINT = "+"


@dataclass(frozen=True, slots=True)
class FieldSelection:
    """The fields that `read_log` was asked for, as the caller wrote them; None leaves the choice to the format.

    Attributes
    ----------
    key : str or None
        A field, or several joined: "client+endpoint".
    time : str or None
        The field that holds the time.
    time_unit : {"s", "ms", "us", "ns", "iso"} or None
        The unit of the time: seconds, milli-, micro- or nanoseconds since the epoch, or ISO 8601 text.
    cost : str or None
        A field, or arithmetic over several (`traffic.expression`).
    status : str or None
        The field that holds the status of the answer.
    """

    key: str | None = None
    time: str | None = None
    time_unit: TimeUnit | None = None
    cost: str | None = None
    status: str | None = None

    def key_fields(self, known: Collection[str]) -> tuple[str, ...]:
        """Split the key into its fields; none without a key. A field may have a plus in its own name."""
        if self.key is None:
            return ()
        if self.key in known:
            return (self.key,)
        return tuple(part.strip() for part in self.key.split(JOINT))


def join_names(columns: Sequence[Sequence[str]]) -> Iterable[str]:
    """Join the values of each row to one name, with a plus between them.

    Different rows keep different names: a plus inside a value becomes backslash plus, a backslash becomes two.
    """
    if len(columns) == 1:
        return columns[0]
    return map(JOINT.join, zip(*map(_escaped, columns), strict=True))


def _escaped(values: Sequence[str]) -> list[str]:
    return [
        value.replace("\\", "\\\\").replace(JOINT, f"\\{JOINT}") if JOINT in value or "\\" in value else value
        for value in values
    ]
