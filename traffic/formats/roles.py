"""What the fields of a log mean: which one is the client, the time, the status, and how a key and an endpoint are made.

A name counts first and its values decide: a client is an address or a host's name, a status is from 100 to 599, and a time
is what `traffic.times` finds plausible. What was guessed is said in `Roles.assumed`, and what cannot be told is refused.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from traffic.addresses import (
    JOINT,
    NOBODY,
    PLAIN,
    client_names,
    entries,
    has_ports,
    is_client,
    is_private,
    names_behind_proxy,
)
from traffic.addresses import address as read_address
from traffic.expression import Expression
from traffic.formats.base import Fields, FormatMismatchError, NamePart, Roles
from traffic.formats.field_selection import FORWARDED, FieldSelection, KeyPart, split_fields, split_key
from traffic.formats.role_names import (
    ASKED,
    CLOCKS,
    COUNTS,
    FOREIGN,
    FORWARDED_NAMES,
    INCOMING,
    LATE,
    ROLES,
    SELDOM_STATUS,
    STATUS_ENDS,
    date_and_time,
    is_claimed,
    is_foreign,
    simple,
    usual_rank,
)
from traffic.formats.text_columns import as_text, is_valid, joined, map_distinct
from traffic.provenance import printable
from traffic.times.timestamps import Judgement, Stamps, TimeReader

SAMPLE = 1000  # rows whose values are looked at
MOST = 0.5  # share of the values that must look like what the name says
SURE = 0.9  # the same where no name says it
NEAR = 60.0  # seconds that two times of one request may differ
DAY = 86400.0
DIGITS = 7  # of "45422.26", days of Excel
FINE = 0.01  # seconds; of times that are as fine as this the name decides
SHOWN = 20
DURATION = re.compile(r"elapsed|duration|durée|duree|dauer|taken|took|latency|delay|uptime")
HTTP_VERSION = re.compile(r"^HTTP/[0-9.]++ ++")
NO_STATUS = 0

# RE2 reads these; it never backtracks.
REQUEST = r"^ *[A-Z][A-Z_-]{0,30} +(?:[A-Za-z][A-Za-z0-9+.-]*:/)?/"
CLOCK = r"^ *[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?(?: ?[AaPp][Mm])? *$"
URL = r"^(?:[A-Za-z][A-Za-z0-9+.-]*:/)?/"


class TimeJudge(Protocol):
    """The part of `traffic.times.timestamps.TimeReader` that chooses among fields."""

    def judge(self, values: pa.Array) -> Judgement:
        """Say whether the values could be times of requests."""

    def read(self, values: pa.Array) -> Stamps:
        """Read the values as seconds since the epoch, nan where that fails."""


def resolve(
    selection: FieldSelection,
    sample: Fields,
    names: Sequence[str],
    roles: Mapping[str, tuple[str, ...]],
    reader: TimeJudge,
    declared: bool = True,
) -> Roles:
    """Find the field of each role.

    Parameters
    ----------
    selection : FieldSelection
        What was asked for, which goes before everything else.
    sample : Fields
        The first records, with all fields of `names`.
    names : Sequence[str]
        The fields that there are.
    roles : Mapping[str, tuple[str, ...]]
        What the format says of its fields, before the usual names.
    reader : TimeJudge
        Judges which fields could be times.
    declared : bool, optional
        Whether the log itself names its fields (JSON, a header, a format that the user gave). Where neither it nor its
        format does, and the client is a private address, it is the first of X-Forwarded-For in such a record.

    Raises
    ------
    FormatMismatchError
        If a field that was asked for is not there, or there is no time, or nothing that could be the client.
    ExpressionError
        If the cost is no expression.
    """
    return _Resolver(selection, sample, names, roles, reader, declared).roles()


class _Resolver:
    """The state of one `resolve`."""

    def __init__(
        self,
        selection: FieldSelection,
        sample: Fields,
        names: Sequence[str],
        roles: Mapping[str, tuple[str, ...]],
        reader: TimeJudge,
        declared: bool,
    ) -> None:
        self.selection = selection
        self.columns = sample.columns
        self.rows = len(sample)
        self.names = names
        self.said = roles
        self.reader = reader
        self.declared = declared
        self._client_parts: dict[tuple[str, KeyPart | None, bool], NamePart] = {}
        self.assumed: list[str] = []
        self._texts: dict[str, list[str]] = {}

    def roles(self) -> Roles:
        asked = self.selection.endpoint
        endpoint_name = None if asked is None else self._there(asked, "endpoint")
        cost = self._cost()
        time = self._time()
        self.client = self._client()
        self.status = status = self._status()
        key, session = self._key(), self._session()
        return Roles(
            time=time,
            key=key,
            session=session,
            endpoint=() if endpoint_name else self._endpoint(),
            endpoint_name=endpoint_name,
            status=status,
            cost=cost,
            zero=() if cost is None else tuple(filter(cost.names.__contains__, self._named("size"))),
            needs=self._needs(status, key),
            assumed=tuple(self.assumed),
        )

    # Fields by name

    def _there(self, name: str, use: str) -> str:
        """Return the field of this name, in any case if only one has it; raise FormatMismatchError without one."""
        if name in self.names:
            return name
        alike = [known for known in self.names if known.casefold() == name.casefold()]
        if len(alike) == 1:
            return alike[0]
        roles = (*ASKED, FORWARDED) if use in ("key", "session") else ()
        raise FormatMismatchError(f"has no field {printable(name)!r} for the {use}{_meant(name, self.names, roles)}")

    def _named(self, role: str) -> list[str]:
        """List the fields with a usual name of the role, the most usual first."""
        said = [name for name in self.said.get(role, ()) if name in self.names]
        usual = ROLES[role]
        ranked: list[tuple[bool, int, int, bool, int, str]] = []
        for place, name in enumerate(self.names):
            rank = usual_rank(name, usual, FOREIGN | INCOMING if role == "size" else FOREIGN)
            if rank is not None and name not in said:
                incoming = any(simple(step) in INCOMING for step in name.split(".")[:-1])
                ranked.append((role != "forwarded" and is_claimed(name), *rank, not incoming, place, name))
        return said + [name for *_, name in sorted(ranked)]

    def _first(self, role: str) -> str | None:
        """Return the first field with a usual name of the role that is not empty throughout."""
        return next(self._filled(role), None)

    def _filled(self, role: str) -> Iterator[str]:
        return (name for name in self._named(role) if self._texts_of(name))

    def _texts_of(self, name: str) -> list[str]:
        """Return the first values of a field as text, without those that say that there is none."""
        if name not in self._texts:
            column = self.columns.get(name)
            self._texts[name] = [] if column is None else [text for text in _texts(column) if text]
        return self._texts[name]

    def _part_of_sample(self, share: float) -> str:
        if self.rows == 1:
            return "in the first record"
        return f"in {_percent(share)} of its values in the first {min(self.rows, SAMPLE)} records"

    # Time

    def _time(self) -> tuple[str, ...]:
        named = self._named("time")
        if self.selection.time is not None:
            fields = tuple(self._there(name, "time") for name in split_fields(self.selection.time, self.names))
            if not self.reader.judge(self._values(fields)).share:
                raise FormatMismatchError(f"{self._unreadable(fields)}; {list_fields(self.names)}")
            return fields
        pairs = date_and_time(self.names) or self._date_and_clock()
        best = self._best_time([(name,) for name in named] + pairs) or self._unnamed_time(named) or self._own_clock()
        if best is None:
            held = next(((name,) for name in named if self._texts_of(name)), None)
            why = f" ({self._unreadable(held)})" if held else ""
            raise FormatMismatchError(f"has no field with the time; name one with --time{why}; {list_fields(self.names)}")
        return best

    def _date_and_clock(self) -> list[tuple[str, ...]]:
        """List the pair of the only field of dates and the only one of clock times, whatever they are called."""
        clocks = [
            name
            for name in self.names
            if _share_matching(self._texts_of(name), CLOCK) >= SURE and not DURATION.search(simple(name))
        ]
        if len(clocks) != 1:
            return []
        dates: list[tuple[str, ...]] = []
        for name in self.names:
            if self._has_digits(name) and name not in clocks:
                judged = self.reader.judge(self._values((name,)))
                if judged.share >= SURE and judged.grain >= DAY:
                    dates.append((name, clocks[0]))
        return dates if len(dates) == 1 else []

    def _values(self, fields: Sequence[str]) -> pa.Array:
        """Return the first values of a time."""
        return joined([self.columns[name] for name in fields]).slice(0, SAMPLE).drop_null()

    def _unreadable(self, fields: Sequence[str]) -> str:
        reader = TimeReader(self.selection.time_unit)
        values = self._values(fields)
        reader.judge(values)
        return reader.unreadable(JOINT.join(fields), values)

    def _best_time(self, candidates: Sequence[tuple[str, ...]]) -> tuple[str, ...] | None:
        """Choose the finest of the fields that are called as times are and hold some; of equally fine ones the first."""
        plausible: list[tuple[bool, float, int, tuple[str, ...], Judgement]] = []
        for rank, fields in enumerate(candidates):
            if all(self._texts_of(name) for name in fields):
                judged = self.reader.judge(self._values(fields))
                if judged.share >= MOST and not judged.own_clock:
                    late = any(LATE.search(simple(name)) for name in fields)
                    plausible.append((late, max(judged.grain, FINE), rank, fields, judged))
        if not plausible:
            return None
        filled = {fields: min(len(self._texts_of(name)) for name in fields) for *_, fields, _ in plausible}
        plausible = [each for each in plausible if 2 * filled[each[3]] >= max(filled.values())]
        plausible.sort(key=lambda each: each[:3])
        _, grain, _, fields, judged = plausible[0]
        if grain > FINE:
            finer = self._finer(fields, {name for each in candidates for name in each}, grain)
            if finer is not None:
                return finer
        others = [_shown(other) for *_, other, _ in plausible[1:] if not set(other) & set(fields)]
        offered = f"; --time {_listed(others, 'or')} would take another" if others else ""
        self.assumed.append(f"time: field {_shown(fields)} ({judged.form}){offered}")
        return fields

    def _finer(self, coarse: tuple[str, ...], named: Collection[str], grain: float) -> tuple[str, ...] | None:
        """Find a field of any name that tells the same times more finely: $msec at the end of a combined line."""
        expected = self.reader.read(joined([self.columns[name] for name in coarse]).slice(0, SAMPLE)).seconds
        for name in self.names:
            if name in named or not self._has_digits(name) or len(self._texts_of(name)) < SURE * len(expected):
                continue
            judged = self.reader.judge(self._values((name,)))
            if judged.share < SURE or judged.grain > FINE or judged.own_clock:
                continue
            seconds = self.reader.read(self.columns[name].slice(0, SAMPLE)).seconds
            if np.mean(np.abs(seconds - expected) < NEAR + grain) >= SURE:
                self.assumed.append(
                    f"time: field {_shown((name,))} ({judged.form}), which is finer than {_shown(coarse)} and agrees with "
                    f"it; --time {_shown(coarse)} would take that"
                )
                return (name,)
        return None

    def _has_digits(self, name: str) -> bool:
        """Whether the first value has as many digits as the shortest time of a day and an hour: the others need no judge."""
        return any(sum(map(str.isdecimal, text)) >= DIGITS for text in self._texts_of(name)[:1])

    def _unnamed_time(self, named: Sequence[str]) -> tuple[str, ...] | None:
        """Take the only field whose values are times, whatever its name."""
        found = []
        for name in self.names:
            if name in named or not self._has_digits(name):
                continue
            judged = self.reader.judge(self._values((name,)))
            if judged.share >= SURE and judged.grain < DAY and not judged.own_clock:
                found.append((name, judged))
        if len(found) > 1:
            fields = _listed([printable(name) for name, _ in found], "or")
            raise FormatMismatchError(f"has several fields whose values could be the time; name one with --time {fields}")
        if not found:
            return None
        name, judged = found[0]
        self.assumed.append(f"time: field {_shown((name,))}, the only one whose values are times ({judged.form})")
        return (name,)

    def _own_clock(self) -> tuple[str, ...] | None:
        """Take a field whose only name is "time" and whose numbers never fall: a clock of the log's own."""
        for name in self.names:
            if simple(name) in CLOCKS and self._texts_of(name):
                judged = self.reader.judge(self._values((name,)))
                if judged.share >= SURE and judged.own_clock:
                    self.assumed.append(f"time: field {_shown((name,))} ({judged.form})")
                    return (name,)
        return None

    # Status

    def _status(self) -> str | None:
        if self.selection.status is not None:
            return self._there(self.selection.status, "status")
        for name in self._named("status"):
            share = self._share_of_statuses(name)
            if share > MOST:
                self.assumed.append(f"status: field {_shown((name,))} (100 to 599 {self._part_of_sample(share)})")
                return name
        ends = [name for name in self.names if simple(name).endswith(STATUS_ENDS) and not is_foreign(name)]
        likely = [name for name in ends if self._share_of_statuses(name) >= SURE]
        if len(likely) == 1:
            self.assumed.append(f"status: field {_shown(likely)}, the only one that is called nearly so and has 100 to 599")
            return likely[0]
        self.assumed.append("status: none found; --status names its field")
        return None

    def _share_of_statuses(self, name: str) -> float:
        """Share of a field's values that are HTTP statuses; of the records with a client, where there are any."""
        texts = self._texts_of(name)
        if texts and self.client is not None:
            with_client = self.columns[name].filter(pa.array(is_valid(self.columns[self.client])))
            texts = [text for text in _texts(with_client) if text] or texts
        codes = status_codes(pa.array(texts, pa.string()))
        return float(np.mean((codes >= 100) & (codes <= 599))) if len(codes) else 0.0

    # Client and key

    def _client(self) -> str | None:
        """Find the client by name and value; what was taken is said by `_key` and `_session` where they use it."""
        self.why = self.proxied = ""
        forwarded = [name for name in self._named("forwarded") if self._share(name) > 0]
        # A proxy on the same machine, which names nobody.
        named = [
            name for name in self._named("client") if not all(text.startswith("unix:") for text in self._texts_of(name))
        ]
        chosen = next((name for name in named if self._share(name) > MOST), None)
        if chosen is None:
            weak = self._named("client if an address")
            chosen = next((name for name in weak if self._share(name) > MOST), None)
        if chosen is None:
            chosen = next((name for name in named if self._texts_of(name) and not self._is_number(name)), None)
            if chosen is not None:
                self.why = "by its name; its values are no addresses"
        inside = chosen is not None and self._is_inside(chosen)
        if chosen is not None and not forwarded and (inside or not self.declared):
            forwarded = self._address_fields(without=chosen)
            if self.declared:  # other addresses than a list of proxies: of use only if they are of somebody outside
                forwarded = [name for name in forwarded if not self._is_inside(name)]
        if chosen is not None and forwarded and forwarded[0] != chosen:
            self._weigh(chosen, forwarded[0])
        if chosen is None and forwarded:
            chosen = forwarded[0]
            self.why = "the list's first, because no other field has the client's address"
        if chosen is None:
            chosen = self._only_addresses()
        if chosen is None:
            return None
        if not self.why:
            self.why = f"an address {self._part_of_sample(self._share(chosen))}"
            if inside:
                few = len({*map(read_address, self._texts_of(chosen))})
                self.why += f"; all are private, {few} different, and may be a proxy's"
        return chosen

    def _is_inside(self, name: str) -> bool:
        """Whether a field has private addresses only, as where a proxy stands before the server."""
        addresses = [read_address(entry) for text in self._texts_of(name) for entry in entries(text)[:1]]
        return bool(addresses) and all(found is not None and is_private(found) for found in addresses)

    def _client_part(self, name: str, asked: KeyPart | None = None, role: bool = False) -> NamePart:
        """Make the part once: a key and a session that are made alike are read once."""
        if (name, asked, role) not in self._client_parts:
            self._client_parts[name, asked, role] = self._made_client_part(name, asked, role)
        return self._client_parts[name, asked, role]

    def _made_client_part(self, name: str, asked: KeyPart | None, role: bool) -> NamePart:
        """Read a field as addresses; of the role, and not of a field that was asked for, also the one behind a proxy."""
        ports = has_ports(self._texts_of(name)) or name.casefold().endswith(("ip:port", "client:port"))
        options: dict[str, Any] = {"ports": ports}
        if asked is not None:
            options |= {"pick": asked.pick or 0, "prefix4": asked.prefix4, "prefix6": asked.prefix6}
        if role and self.proxied:
            return NamePart((name, self.proxied), partial(names_behind_proxy, **options))
        plain = None if options.get("prefix4") is not None or options.get("prefix6") is not None else PLAIN
        return NamePart((name,), partial(client_names, **options), plain)

    def _share(self, name: str) -> float:
        """Share of a field's values that are addresses."""
        texts = self._texts_of(name)
        return sum(map(is_client, texts)) / len(texts) if texts else 0.0

    def _is_number(self, name: str) -> bool:
        """Whether the field is of numbers with fractions, which name nobody."""
        return name in self.columns and bool(pa.types.is_floating(self.columns[name].type))

    def _weigh(self, client: str, forwarded: str) -> None:
        """Tell whether the client stands in X-Forwarded-For, where both are there; `proxied` is that field then."""
        addresses = [read_address(text) for text in self._texts_of(client)]
        private = [found is not None and is_private(found) for found in addresses]
        inner = [read_address(entry) for text in self._texts_of(forwarded) for entry in entries(text)[:1]]
        public = any(found is not None and not is_private(found) for found in inner)
        name = FORWARDED if forwarded in self._named("forwarded") else printable(forwarded)
        many, few = len({*inner} - {None}), len({*addresses})
        instead = f", {many} different in place of {few}" if many >= 2 * few else ""  # a proxy with a public address
        offered = f"--key {name} would limit by {_shown((forwarded,))}{instead}"
        if any(private) and public and not (self.declared or client in self.said.get("client", ())):
            self.proxied = forwarded
            share = _percent(sum(private) / len(private))
            self.why = (
                f"or the first of {_shown((forwarded,))} where that is private, as it is in {share} of its values; --key "
                f"{printable(client)} would limit by that alone"
            )
        elif addresses and all(private) and public:
            self.why = f"by its name, although it has private addresses only ({few} different); {offered}"
        else:
            self.why = f"an address {self._part_of_sample(self._share(client))}; {offered}"

    def _only_addresses(self) -> str | None:
        """Take the only field whose values are addresses, whatever its name."""
        found = self._address_fields()
        if len(found) != 1:
            return None
        self.why = "the only one whose values are addresses"
        return found[0]

    def _address_fields(self, without: str | None = None) -> list[str]:
        """List the fields of any name whose values are addresses, without those of other machines."""
        return [
            name
            for name in self.names
            if name != without and not is_foreign(name) and not self._is_number(name) and self._share(name) >= SURE
        ]

    def _key(self) -> tuple[NamePart, ...]:
        if self.selection.key is not None:
            return tuple(self._part(part, "key") for part in split_key(self.selection.key, self.names))
        if self.client is None:
            raise self._no_client()
        alternatives = [printable(name) for name in self._alternatives() if name != self.client][:3]
        offered = f"; --key {_listed(alternatives, 'or')} would limit by that" if alternatives else ""
        self.assumed.insert(0, f"key: client, field {_shown((self.client,))} ({self.why}){offered}")
        return (self._client_part(self.client, role=True),)

    def _no_client(self) -> FormatMismatchError:
        addresses = self._address_fields()
        problem = "has several fields with addresses" if addresses else "has no field that can be the client"
        alternatives = list(map(printable, (addresses or self._alternatives())[:3]))
        offered = _listed(alternatives, "or") if alternatives else "FIELD"
        return FormatMismatchError(
            f"{problem}; name the key with --key {offered}, or take one limit for all with --key none; "
            f"{list_fields(self.names)}"
        )

    def _alternatives(self) -> list[str]:
        """List the fields that could be the key instead of the client."""
        return [name for role in ("key", "user") for name in self._named(role) if len(set(self._texts_of(name))) > 1]

    def _part(self, part: KeyPart, use: str) -> NamePart:
        """Find the field of a part: a field of just that name, then a role, then a name in another case."""
        if part.name in self.names:
            return self._field_part(part.name, part)
        name = part.name.casefold()
        if name in FORWARDED_NAMES:
            forwarded = [each for each in self._named("forwarded") if self._texts_of(each)]
            if not forwarded:
                raise FormatMismatchError(f"has no X-Forwarded-For for the {use} {part.text!r}; {list_fields(self.names)}")
            return self._client_part(forwarded[0], part)
        if name == "client":
            if self.client is None:
                raise self._no_client()
            if use == "key":
                self.assumed.insert(0, f"client: field {_shown((self.client,))} ({self.why})")
            return self._client_part(self.client, part, role=True)
        if name == "session" and use == "key":
            parts = self._session()
            if parts:
                return parts[0] if len(parts) == 1 else NamePart(tuple(name for each in parts for name in each.fields))
        if name in ("endpoint", "path", "method"):
            fields = self._request("method" if name == "method" else "path")
            if fields is not None:
                return fields
        elif name in ASKED:
            # Users may log in later, so a field that is empty so far will do.
            field = self.status if name == "status" else next(iter([*self._filled(name), *self._named(name)]), None)
            if field is not None:
                return self._field_part(field, part)
        return self._field_part(self._there(part.name, use), part)

    def _field_part(self, name: str, part: KeyPart) -> NamePart:
        addresses = part.prefix4 or part.prefix6 or part.pick is not None or self._share(name) > MOST
        return self._client_part(name, part) if addresses else NamePart((name,))

    def _is_mixed(self) -> bool:
        """Whether records have different fields, as in JSON and never in a table of text."""
        columns = self.columns.values()
        return any("." in name for name in self.names) or any(
            c.null_count or not pa.types.is_string(c.type) for c in columns
        )

    # Endpoint, session, cost

    def _request(self, role: str) -> NamePart | None:
        """Find the method or the path, in a field of its own or in the request line."""
        for own in self._named(role):
            texts = self._texts_of(own)
            if role == "method" and texts:
                return NamePart((own,))
            if _share_matching(texts, URL) > MOST:
                return NamePart((own,), paths_of_urls)
        line = self._request_line()
        if line is None:
            return None
        return NamePart((line,), methods_of_requests if role == "method" else paths_of_requests)

    def _request_line(self) -> str | None:
        return next((name for name in self._named("request") if _share_matching(self._texts_of(name), REQUEST) > 0), None)

    def _endpoint(self) -> tuple[str, ...]:
        path, method = self._request("path"), self._request("method")
        if path is None:
            return ()
        if path.names is paths_of_requests or method is None or method.names is not None:
            return path.fields
        return method.fields + path.fields

    def _session(self) -> tuple[NamePart, ...]:
        asked = self.selection.session
        if asked is not None:
            return tuple(self._part(part, "session") for part in split_key(asked, self.names))
        own = next((name for name in self._named("session") if 2 * len(self._texts_of(name)) > min(self.rows, SAMPLE)), None)
        if own is not None:
            return (NamePart((own,)),)
        if self.client is None:
            return ()
        agent = self._first("agent")
        client = self._client_part(self.client, role=True)
        return (client,) if agent is None else (client, NamePart((agent,)))

    def _cost(self) -> Expression | None:
        asked = self.selection.cost
        if asked is None:
            self._say_counts()
            return None
        if asked in self.names:
            return Expression.column(asked)
        cost = Expression.parse(asked)
        fields = {}
        for name in cost.names:
            size = self._first("size") if name == "size" and name not in self.names else None
            fields[name] = size or self._there(name, "cost")
        return cost.renamed(fields)

    def _say_counts(self) -> None:
        """Say that a row counts as one request, where a field may tell that it stands for several."""
        for name in self.names:
            texts = self._texts_of(name) if simple(name) in COUNTS else []
            if texts and all(map(str.isdecimal, texts)) and any(int(text) > 1 for text in texts):
                shown = printable(name)
                self.assumed.append(
                    f"requests: one for each record, though {shown} may tell that it stands for several; --cost {shown} "
                    "would let a record cost as much, at one time"
                )

    def _needs(self, status: str | None, key: Sequence[NamePart]) -> tuple[str, ...]:
        """Choose the fields that make a record a request.

        Where most records of the key have a status, a request has a status or a size: the error that a server logs beside
        the request, and what it says of itself, have neither. Elsewhere a request has a client or a path.
        """
        fields = [*filter(None, [self.client]), *(name for part in key for name in part.fields)]
        who = next((is_valid(self.columns[name]) for name in fields if name in self.columns), None)
        if who is None or not self._is_mixed():
            return ()
        if status is not None and simple(status.rpartition(".")[2]) not in SELDOM_STATUS:
            codes = status_codes(self.columns[status])
            answered = is_valid(self.columns[status])
            # A field that other records use for something else tells nothing.
            clean = np.count_nonzero(codes) >= SURE * np.count_nonzero(answered)
            if clean and 2 * np.count_nonzero(answered & who) >= np.count_nonzero(who):
                size = self._first("size")
                without = int(np.count_nonzero(who & ~answered & ~(is_valid(self.columns[size]) if size else np.False_)))
                if without:
                    self.assumed.append(
                        f"requests: those with a {printable(status)}; {without} of the first {self.rows} records have a"
                        " client and none of it, and do not count"
                    )
                return (status,) if size is None else (status, size)
        if self.client is None:
            return ()
        return tuple(dict.fromkeys((self.client, *self._endpoint())))


def status_codes(column: pa.Array) -> NDArray[np.uint16]:
    """Return the status code of each value, a number from 100 to 999 in text or not; 0 where there is none."""
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        numbers = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        good = (numbers >= 100) & (numbers <= 999) & (numbers == np.floor(numbers))
        return np.where(good, numbers, NO_STATUS).astype(np.uint16)
    codes = map_distinct(as_text(column), _code, pa.uint16()).fill_null(NO_STATUS)
    return np.asarray(codes.to_numpy(zero_copy_only=False), np.uint16)


def _code(text: str) -> int:
    try:
        number = float(HTTP_VERSION.sub("", text.strip(' []"')).partition(" ")[0])  # "200 OK", "[200]", "HTTP/1.1 200 OK"
    except ValueError:
        return NO_STATUS
    return int(number) if 100 <= number <= 999 and number.is_integer() else NO_STATUS


def list_fields(names: Sequence[str]) -> str:
    """List the names of the fields, at most the first 20, safe to print."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"its fields are {', '.join(map(printable, names[:SHOWN]))}{more}"


def _meant(name: str, names: Sequence[str], roles: Sequence[str] = ()) -> str:
    """End a message about a name that is not there: the names (of fields or roles) close to it, or else all fields."""
    known = list(dict.fromkeys((*names, *(role for role in roles if role != name))))
    close = difflib.get_close_matches(name[:100].casefold(), [each.casefold() for each in known], 3, 0.65)
    meant = [each for each in known if each.casefold() in close]
    if not meant:
        return f"; {list_fields(names)}"
    return f"; did you mean {_listed([printable(each) for each in meant[:3]], 'or')}?"


def _listed(names: Sequence[str], word: str) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}" if names else ""


def _shown(fields: Iterable[str]) -> str:
    return JOINT.join(map(printable, fields))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share in (0, 1) or 0.01 <= share <= 0.99 else f"{100 * share:.2g} %"


# Columns


def _texts(column: pa.Array) -> list[str]:
    """Return the first values as text; "" where there is none."""
    values = as_text(column.slice(0, SAMPLE)).to_pylist()
    return ["" if value is None or value.strip() in ("", "-") else value for value in values]


REQUEST_LINE = re.compile(r" *+([A-Z][A-Z_-]{0,30}+) ++(\S++)")


def methods_of_requests(lines: Sequence[str]) -> list[str]:
    """Return the method of each request line; "-" where there is none."""
    found = map(REQUEST_LINE.match, lines)
    return [match[1] if match else NOBODY for match in found]


def paths_of_requests(lines: Sequence[str]) -> list[str]:
    """Return the path of each request line, without scheme, host and query; "-" where there is none."""
    found = map(REQUEST_LINE.match, lines)
    return paths_of_urls([match[2] if match else NOBODY for match in found])


def paths_of_urls(urls: Sequence[str]) -> list[str]:
    """Return the path of each url or path, without scheme, host and query."""
    return [_path(url) for url in urls]


def _path(url: str) -> str:
    path = url.partition("?")[0]
    if not path.startswith("/"):
        _, scheme, rest = path.partition("://")
        if not scheme:
            return path or NOBODY  # a name, such as "users#show"
        path = "/" + rest.partition("/")[2]
    return path.partition("#")[0]


def _share_matching(texts: Sequence[str], pattern: str) -> float:
    return float(pc.mean(pc.match_substring_regex(pa.array(texts), pattern)).as_py()) if texts else 0.0
