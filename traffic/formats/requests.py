"""`RequestReader`: the fields of a block become requests, column by column; names are read once per distinct value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from traffic.addresses import ALL, NOBODY
from traffic.formats.base import Fields, FormatMismatchError, NamePart, Roles
from traffic.formats.field_selection import join_names
from traffic.formats.roles import paths_of_urls, status_codes
from traffic.formats.text_columns import as_text, is_valid, joined
from traffic.times.timestamps import TimeReader

OTHER = "other"
TOO_MANY = 429
# The method, if any, and the first segment of the path, with or without "https://host", up to what may be a secret.
PLACE = r'^"?(?P<method>[A-Z][A-Z_-]* +)?(?:[a-z][a-z0-9+.-]*://[^/ ?"\\]*)?(?P<path>/[^/? "\\]*)'
PLAIN_PLACE = r'^(?P<place>[A-Z]+ /[^/? "\\]*)'  # of nearly all requests, three times as fast


@dataclass(frozen=True, slots=True)
class Names:
    """A column of names. code: which of `names` (distinct texts) each row has, int32 of shape (n,)."""

    code: NDArray[np.int32]
    names: pa.StringArray


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests of a block, n rows.

    Attributes
    ----------
    time : NDArray[np.float64]
        Seconds since the epoch.
    grain : NDArray[np.float32]
        As of `Trace`, as far as the text of the stamps tells.
    key, endpoint : Names
        Their names.
    session : tuple[Names, ...]
        The parts of the name of the session; () where it is the key.
    status : NDArray[np.uint16]
        HTTP status codes; 0 is none.
    cost : NDArray[np.float64] or None
        None where each is 1; nan where a request answered 429 does not tell its cost.
    lost : NDArray[np.int64]
        Numbers of the lines that are no request because of an unreadable time or cost.
    costless : int
        How many of those have a time, and no number in a field of the cost.
    ignored : int
        Records that name neither a client nor a status.
    unnamed : frozenset[str]
        Fields of the key that are empty in all of these requests, and that of the status where none of them has one.
    """

    time: NDArray[np.float64]
    grain: NDArray[np.float32]
    key: Names
    endpoint: Names
    session: tuple[Names, ...]
    status: NDArray[np.uint16]
    cost: NDArray[np.float64] | None
    lost: NDArray[np.int64]
    costless: int
    ignored: int
    unnamed: frozenset[str]

    def __len__(self) -> int:
        return len(self.time)


class RequestReader:
    """Reads the fields of one source as its roles say. It keeps nothing, so that several threads may use it."""

    def __init__(self, roles: Roles, times: TimeReader) -> None:
        self.roles = roles
        self.needed = roles.needed
        self.times = times

    def read(self, fields: Fields) -> Requests:
        """Return the requests of a block.

        A record is lost if its time is unreadable, or a field of its cost is empty or no number. A record that was answered
        429 is a request even without a cost, because a log may tell only the cost that was taken.

        Raises
        ------
        FormatMismatchError
            A cost is negative or not finite; it names the line.
        """
        roles, columns = self.roles, fields.columns
        stamps = self.times.read(joined([columns[name] for name in roles.time]))
        status = status_codes(columns[roles.status]) if roles.status else np.zeros(len(fields), np.uint16)
        meant = _filled([columns[name] for name in roles.needs], len(fields))
        good = np.isfinite(stamps.seconds) & meant
        cost, costless = None, 0
        if roles.cost:
            terms = {name: _numbers(columns[name], name in roles.zero) for name in roles.cost.names}
            unsaid = np.zeros(len(fields), np.bool_)
            for name, term in terms.items():
                unsaid |= np.isnan(term) & ~_says_nan(columns[name], term)
            refused = unsaid & (status == TOO_MANY)
            costless = int(np.count_nonzero(good & unsaid & ~refused))
            good &= ~unsaid | refused
            said = good & ~unsaid
            cost = np.full(len(fields), np.nan)
            known = {name: term[said] for name, term in terms.items()}
            cost[said] = _checked(roles.cost(known, int(np.count_nonzero(said))), fields.line[said])
            cost = cost[good]
        kept = columns if good.all() else {name: column.filter(pa.array(good)) for name, column in columns.items()}
        n = int(np.count_nonzero(good))
        parts = [name_column(part, kept) for part in roles.key]
        unnamed = {"+".join(part.fields) for part, found in zip(roles.key, parts, strict=True) if _says_nothing(found)}
        if roles.status is not None and not status[good].any():
            unnamed.add(roles.status)
        return Requests(
            time=stamps.seconds[good],
            grain=stamps.grain[good],
            key=_key(parts, n),
            endpoint=self._endpoints(kept, n),
            session=tuple(self._session_part(part, kept, parts) for part in roles.session),
            status=status[good],
            cost=cost,
            lost=fields.line[~good & meant],
            costless=costless,
            ignored=int(np.count_nonzero(~meant)),
            unnamed=frozenset(unnamed),
        )

    def _session_part(self, part: NamePart, columns: Mapping[str, pa.Array], key: list[Names]) -> Names:
        same = [found for other, found in zip(self.roles.key, key, strict=True) if other is part]
        return same[0] if same else name_column(part, columns)

    def _endpoints(self, columns: Mapping[str, pa.Array], n: int) -> Names:
        if self.roles.endpoint_name is not None:
            return name_column(NamePart((self.roles.endpoint_name,), paths_of_urls), columns)
        if not self.roles.endpoint:
            return Names(np.zeros(n, np.int32), pa.array([NOBODY]))
        request = joined([columns[name] for name in self.roles.endpoint])
        plain = pc.extract_regex(as_text(request), pattern=PLAIN_PLACE)
        place = plain.field("place").filter(plain.is_valid())
        odd = pc.invert(plain.is_valid())
        if len(place) == len(plain):
            return _distinct(place)
        # In a field of its own the method may be written small.
        pattern = PLACE if len(self.roles.endpoint) == 1 else f"(?i){PLACE}"
        found = pc.extract_regex(as_text(request).filter(odd), pattern=pattern)
        method = pc.replace_substring_regex(found.field("method"), " +", " ")
        others = pc.if_else(found.is_valid(), pc.binary_join_element_wise(method, found.field("path"), ""), OTHER)
        return _distinct(pc.replace_with_mask(plain.field("place"), odd, others))


def name_column(part: NamePart, columns: Mapping[str, pa.Array]) -> Names:
    """Return the names of a part, each read once."""
    found = _distinct(joined([columns[name] for name in part.fields], missing=NOBODY))
    if part.names is None:
        return found
    if part.plain is None:
        return _merged(found.code, pa.array(part.names(found.names.to_pylist()), pa.string()))
    odd = pc.invert(pc.match_substring_regex(found.names, part.plain))
    named = part.names(found.names.filter(odd).to_pylist())
    return _merged(found.code, pc.replace_with_mask(found.names, odd, pa.array(named, pa.string()))) if named else found


def _says_nothing(found: Names) -> bool:
    return len(found.names) == 0 or (len(found.names) == 1 and found.names[0].as_py() == NOBODY)


def _merged(code: NDArray[np.int32], names: pa.StringArray) -> Names:
    """Join equal names."""
    coded = names.dictionary_encode()
    if len(coded.dictionary) == len(names):
        return Names(code, names)
    return Names(coded.indices.to_numpy()[code], coded.dictionary)


def _key(parts: list[Names], n: int) -> Names:
    if not parts:
        return Names(np.zeros(n, np.int32), pa.array([ALL]))
    if len(parts) == 1:
        return parts[0]
    code = parts[0].code.astype(np.int64)
    for part in parts[1:]:
        code = code * max(len(part.names), 1) + part.code
    pairs, index = np.unique(code, return_inverse=True)
    spelled: list[list[str]] = []
    for part in reversed(parts):
        pairs, which = np.divmod(pairs, max(len(part.names), 1))
        spelled.insert(0, part.names.take(pa.array(which)).to_pylist())
    return Names(index.astype(np.int32), pa.array(join_names(spelled, len(spelled[0])), pa.string()))


def _distinct(column: pa.Array) -> Names:
    """Find the distinct values in order of first appearance; null and empty ones are "-"."""
    text = as_text(column)
    text = pc.if_else(pc.equal(text, ""), NOBODY, text).fill_null(NOBODY)
    coded = text.dictionary_encode()
    return Names(coded.indices.to_numpy(), coded.dictionary)


def _filled(columns: list[pa.Array], n: int) -> NDArray[np.bool_]:
    """Tell which rows have a value in one of the columns; all where there is no column."""
    if not columns:
        return np.ones(n, np.bool_)
    there = np.zeros(n, np.bool_)
    for column in columns:
        there |= _present(column)
    return there


def _present(column: pa.Array) -> NDArray[np.bool_]:
    there = is_valid(column)
    if pa.types.is_string(column.type):
        there &= ~pc.is_in(column, pa.array(["", NOBODY])).to_numpy(zero_copy_only=False)
    return there


def _numbers(column: pa.Array, zero: bool) -> NDArray[np.float64]:
    """Convert to float64; nan for what is no number. "-" is 0 where `zero` says so."""
    if zero and pa.types.is_string(column.type):
        column = pc.if_else(pc.equal(column, NOBODY), "0", column)
    try:
        found = column.cast(pa.float64())
    except pa.ArrowInvalid:
        names = _distinct(column)
        return np.array([_number(name) for name in names.names.to_pylist()] or [0.0])[names.code]
    return np.asarray(found.to_numpy(zero_copy_only=False), np.float64)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _says_nan(column: pa.Array, numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which of the rows that are nan are meant to be: text that is no number is not."""
    said = np.zeros(len(numbers), np.bool_)
    if pa.types.is_string(column.type):
        rows = np.flatnonzero(np.isnan(numbers))
        said[rows] = [str(value).strip().lower().lstrip("+-") == "nan" for value in column.take(pa.array(rows)).to_pylist()]
    return said


def _checked(cost: NDArray[np.float64], line: NDArray[np.int64]) -> NDArray[np.float64]:
    bad = ~(np.isfinite(cost) & (cost >= 0))
    if bad.any():
        first = int(np.argmax(bad))
        raise FormatMismatchError(f"line {line[first]}: its cost is {cost[first]:g}; a cost is a finite number >= 0")
    return cost
