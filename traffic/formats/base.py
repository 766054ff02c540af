"""What every log format is made of: `Format`, its `Splitter`, and the `Fields` that it cuts from a `Block` of lines.

A format knows where the fields of a line are, and nothing of what they mean: `traffic.formats.roles` finds the client, the
time and the status among their names and values, alike for all formats.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from traffic.expression import Expression

EXCERPT_CHARACTERS = 200


class FormatMismatchError(ValueError):
    """A log that does not fit what was asked of it.

    The message names the mismatch and the remedy, without the file's name.
    """


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of a source.

    Attributes
    ----------
    data : bytes
        Valid UTF-8. Every line ends with a line feed, also the last one; there is no carriage return before it and no zero
        byte.
    line : int
        Number of the first line in its source, from 1.
    """

    data: bytes
    line: int = 1


@dataclass(frozen=True, slots=True)
class Fields:
    """The records of a block, as columns.

    Attributes
    ----------
    columns : Mapping[str, pa.Array]
        One column of length n for each field that was needed: string, int64 or float64; null where a record has not got it.
    line : NDArray[np.int64]
        Number of the line in its source where each record begins, shape (n,).
    skipped : Sequence[str]
        The lines that should be a record and are none (as of `excerpt`, blank lines left out).
    ignored : int
        Lines that are no request and were never meant to be one: headers, comments, what the program says of itself.
    """

    columns: Mapping[str, pa.Array]
    line: NDArray[np.int64]
    skipped: Sequence[str] = ()
    ignored: int = 0

    def __len__(self) -> int:
        return len(self.line)


def excerpt(line: bytes) -> str:
    """Return the first characters of a line, as they are kept of one that is no record."""
    return line[: 4 * EXCERPT_CHARACTERS].decode("utf-8", "ignore")[:EXCERPT_CHARACTERS]


class Splitter(Protocol):
    """Cuts the blocks of one source into fields. It was made for the source by its format, from the first lines."""

    names: tuple[str, ...]
    """The fields that there are, in order of appearance. A field of an inner object is a path with dots: "user.id"."""
    in_order: bool
    """Whether blocks must come one after the other, since a record may begin in one and end in the next. Where it is False,
    `split` is called by several threads at once, in any order, and keeps nothing."""

    def split(self, block: Block, needed: Collection[str]) -> Fields:
        """Return the records of a block with the fields `needed`, which are some of `names` (or other paths into JSON).

        A field that no record has is a column of nulls.
        """

    def close(self, needed: Collection[str]) -> Fields | None:
        """Return the records that were held back, if any; called once, after the last block."""


@dataclass(frozen=True, slots=True)
class Format:
    """A log format: one object of this class in a file of its own, and a line in `traffic.formats.FORMATS`.

    Attributes
    ----------
    name : str
        As in `--format`.
    title : str
        Who writes it, a few words.
    example : str
        A line (or a header and a line) of it, which `ratesim formats` shows and the tests read.
    source : str
        Address of its description.
    splitter : Callable[[Block], Splitter or None]
        Makes the splitter of a source from its first lines; None where they are not of this format at all.
    roles : Mapping[str, tuple[str, ...]]
        Which fields have which role (client, time, status, user, method, path, request, size, forwarded, ...), the first one
        that is there, before the usual names of `traffic.formats.roles`. Most formats need none.
    """

    name: str
    title: str
    example: str
    source: str
    splitter: Callable[[Block], Splitter | None]
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NamePart:
    """A part of a name (of the key, of the session): the values of fields, joined by a blank, read as names.

    Attributes
    ----------
    fields : tuple[str, ...]
        One field, or several such as the client and the user agent.
    names : Callable[[Sequence[str]], Sequence[str]] or None
        Makes the names of distinct values: addresses without ports, a path without its query. None leaves them as they are.
        Absent and empty values are "-".
    plain : str or None
        A regular expression of RE2; values that match it are their own names, so that `names` need not look at them.
    """

    fields: tuple[str, ...]
    names: Callable[[Sequence[str]], Sequence[str]] | None = None
    plain: str | None = None


@dataclass(frozen=True, slots=True)
class Roles:
    """What the fields of one source mean; made by `traffic.formats.roles.resolve`.

    Attributes
    ----------
    time : tuple[str, ...]
        The field of the time, or several whose values are joined by a blank.
    key : tuple[NamePart, ...]
        Joined by a plus; without a part all requests have the key "all".
    session : tuple[NamePart, ...]
        Without a part the key is the session.
    endpoint : tuple[str, ...]
        A field with a request line ("GET /a?b HTTP/1.1"), a path or a url, or two, with the method before that; or none.
    endpoint_name : str or None
        A field whose values are the endpoints, without a query, in the place of `endpoint`.
    status : str or None
        The field of the status.
    cost : Expression or None
        Arithmetic over fields.
    zero : tuple[str, ...]
        Fields of the cost in which "-" means 0: the bytes of an answer.
    needs : tuple[str, ...]
        Fields of which at least one must not be empty in a record, or it is no request; () where every record is one.
    assumed : tuple[str, ...]
        Sentences: which fields were taken for what, why, and what else there was.
    """

    time: tuple[str, ...]
    key: tuple[NamePart, ...] = ()
    session: tuple[NamePart, ...] = ()
    endpoint: tuple[str, ...] = ()
    endpoint_name: str | None = None
    status: str | None = None
    cost: Expression | None = None
    zero: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    @property
    def needed(self) -> tuple[str, ...]:
        """Return the fields to cut from each block."""
        parts = [name for part in (*self.key, *self.session) for name in part.fields]
        single = [name for name in (self.endpoint_name, self.status) if name is not None]
        costs = self.cost.names if self.cost else ()
        return tuple(dict.fromkeys((*self.time, *parts, *self.endpoint, *single, *costs, *self.needs)))
