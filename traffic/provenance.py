"""Where a trace comes from, and what is wrong with one that cannot be."""

from __future__ import annotations

from dataclasses import dataclass, replace


class TraceError(ValueError):
    """A trace that cannot be: the message is one line that names the column, the argument or the file."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """The history of a trace: what it was read or made from, what was lost, and what was done to it since.

    `lines` are the non-blank lines of the source, `parsed + skipped` of them; a trace that was not read from
    a file has none. `examples` are the first three lines that did not parse, at most 200 characters each and
    safe to print. `notes` are short phrases in the order in which things were done ("cut to ...", "speed 4",
    "scale 8").
    """

    source: str = "memory"
    lines: int = 0
    parsed: int = 0
    skipped: int = 0
    examples: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def noted(self, note: str) -> Provenance:
        """The same history with one more note."""
        return replace(self, notes=(*self.notes, note))
