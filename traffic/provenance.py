"""The history of a trace, and the error of a trace that cannot be made."""

from __future__ import annotations

from dataclasses import dataclass, replace

EXAMPLE_CHARACTERS = 200


class TrafficError(ValueError):
    """The base of the errors of `traffic`. The message is one line that names the cause and the remedy."""


class TraceError(TrafficError):
    """A trace is invalid. The message names the column, the argument or the file."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """The history of a trace: its source, the lines that were lost, and the operations since.

    Attributes
    ----------
    source : str
        The file, or the recipe.
    lines : int
        Lines of the source that are not blank, `parsed + skipped + ignored`; 0 for a trace that was not read from a file.
    parsed, skipped : int
        Lines that became requests, and lines that are lost because they could not be read as one.
    ignored : int
        Lines that are no request by nature: headers, comments, what a server says of itself.
    examples : tuple[str, ...]
        The first three lines that did not parse, at most 200 characters each and safe to print.
    notes : tuple[str, ...]
        Short phrases in the order of the operations ("cut to ...", "speed 4", "scale 8").
    assumed : tuple[str, ...]
        What was guessed while reading, a sentence each: which field was taken for the client, and why.
    format : str
        What it was read as, such as "combined (100 % of the first lines)".
    """

    source: str = "memory"
    lines: int = 0
    parsed: int = 0
    skipped: int = 0
    examples: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    ignored: int = 0
    assumed: tuple[str, ...] = ()
    format: str = ""

    @property
    def lost(self) -> float:
        """Share of the lines that should be requests and could not be read."""
        return self.skipped / (self.parsed + self.skipped) if self.skipped else 0.0

    def with_note(self, note: str) -> Provenance:
        """Return the same history with one more note."""
        return replace(self, notes=(*self.notes, note))


def printable(line: str) -> str:
    """Return the line's first 200 characters; those that a terminal might obey become backslash escapes."""
    start = line[:EXAMPLE_CHARACTERS]
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in start)
    return shown[:EXAMPLE_CHARACTERS]
