"""What a collector puts around each line of a log: `find_wrapper` recognizes it, and `Wrapper.peel` takes it off.

Containers (docker, CRI, `kubectl logs --prefix`, stern, compose), syslog and journald, and the services that store logs
(CloudWatch, Heroku, Loki, fluentd, GKE) prefix each line, or put it into an object. The lines inside are the log. Where they
have no time of their own, the collector's stamps stand in for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from traffic.formats.base import Block, Fields, Splitter
from traffic.formats.csv_records import CSV
from traffic.formats.json_records import JSON, PUNCTUATION
from traffic.formats.refused import APACHE_ERROR, NGINX_ERROR
from traffic.provenance import printable

SNIFFED_LINES = 1000
# Collectors may lie around one another: CRI around syslog around JSON.
MAX_DEPTH = 3


@dataclass(frozen=True, slots=True)
class Peeled:
    """The lines inside of a wrapped block.

    Attributes
    ----------
    block : Block
        As many lines as the wrapped block has, so that their numbers are those of the source. A line of another source is
        blank, and so are the first parts of a line that was split. A line without the wrapper is as it was.
    stamps : pa.Array or None
        The collector's stamp of each line of `block`, as text; None if it writes none, or none were asked for.
    ignored : int
        Lines that are blank in `block` and were not before.
    """

    block: Block
    stamps: pa.Array | None
    ignored: int


class Wrapper(Protocol):
    """Takes off what one collector puts around each line of one source."""

    title: str
    """A few words, as in "docker's json-file"."""
    assumed: tuple[str, ...]
    """Sentences: what the requests of several programs or containers may mean."""
    in_order: bool
    """Whether blocks must come one after the other, since a line may be split over two of them. Where it is False, `peel` is
    called by several threads at once, and keeps nothing."""

    def peel(self, block: Block, stamps: bool = True) -> Peeled:
        """Return the lines inside, and the collector's stamps if they are wanted."""

    def close(self) -> Peeled | None:
        """Return the lines that were held back, if any, after the last block."""


# A line that may be a request: what else the same program, or another one in the same stream, says has none of these.
REQUEST = re.compile(
    rb" HTTP/[0-9]|\b(?:GET|HEAD|POST|PUT|DELETE|PATCH|OPTIONS) /|[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9]{2}|\b[A-Z]{3,7} https?://|(?i:method|status|path|uri|url)=[\"A-Z0-9/]"
    rb'|"[\w.-]{0,40}(?i:status|code|method|path|uri|url|request|addr|ip|host)"',
)
ISO = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]++)?(?: ?Z|[+-][0-9]{2}:?[0-9]{2})?"
COLOR = rb"(?:\x1b\[[0-9;]*+m)*+"
MONTH_DAY = rb"[A-Z][a-z]{2} [ 0-3][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]++)?"
PRIORITY = rb"(?:[0-9]++ )?<[0-9]{1,3}>"
# "nginx: ", "haproxy[14389]: ", "heroku[router]: "
TAG = rb"(?P<source>[A-Za-z][\w./-]*+(?:\[[A-Za-z][\w.-]*+\])?)(?:\[[0-9]++\])?: ?"
STRUCTURED = rb'(?:\[(?:[^\]"\\]++|"(?:[^"\\]++|\\.)*+")*+\])++'
CLF = rb"\S++ (?:\S++ )?[^\[\n]{1,300}\[[0-9]{2}/[A-Z][a-z]{2}/"


@dataclass(frozen=True, slots=True)
class Prefix:
    """A collector that writes something before each line.

    The pattern matches what is to go. It may have the groups "stamp"; "source", the program, container or stream, of which
    some are no access logs; and "part", which is "P" where a line goes on in the next one of the same source.
    """

    title: str
    pattern: re.Pattern[bytes]
    only: str | None = None
    """The source of all requests, if it is there: others then repeat them."""


PREFIXES = (
    Prefix("CRI", re.compile(rb"(?P<stamp>%b) (?P<source>stdout|stderr) (?P<part>[FP]) " % ISO)),
    Prefix(
        "syslog (RFC 5424)",
        re.compile(
            rb"%b1 (?P<stamp>\S++) \S++ (?P<source>\S++ \S++) \S++ (?:- |%b )?(?:\xef\xbb\xbf)?" % (PRIORITY, STRUCTURED)
        ),
        "heroku router",
    ),
    Prefix("syslog (RFC 3164)", re.compile(rb"(?:%b)?(?P<stamp>%b) (?:[\w.:-]++ )?%b" % (PRIORITY, MONTH_DAY, TAG))),
    Prefix("Heroku", re.compile(rb"(?P<stamp>%b) (?P<source>(?:heroku|app)\[[\w.-]++\]): " % ISO), "heroku[router]"),
    Prefix(
        "syslog or journald", re.compile(rb"(?:%b)?(?P<stamp>%b|[0-9]{10}\.[0-9]{6}) [\w.:-]++ %b" % (PRIORITY, ISO, TAG))
    ),
    Prefix(
        "zap's console",
        re.compile(
            rb"(?P<stamp>%b|[0-9]{4}/[0-9]{2}/[0-9]{2} [0-9:.]++)\t%b[A-Za-z]++%b\t(?:[^\t{]*+\t){1,3}(?=\{)"
            % (ISO, COLOR, COLOR)
        ),
    ),
    Prefix(
        "Ruby's logger", re.compile(rb"[DIWEFA], \[(?P<stamp>%b) #[0-9]++\] ++[A-Z]++ -- [^:]*+: (?:\[[^\]]*+\] )*+" % ISO)
    ),
    Prefix("kubectl logs --prefix", re.compile(rb"\[pod/[\w.-]++/(?P<source>[\w.-]++)\] ")),
    Prefix("docker compose", re.compile(rb"%b(?=[^ |]*[a-z])(?P<source>[a-z0-9][\w.-]*+) ++\| ?%b" % (COLOR, COLOR))),
    Prefix(
        "Loki (logcli)",
        re.compile(rb'(?P<stamp>%b) \{(?:[A-Za-z_]\w*+="(?:[^"\\]++|\\.)*+"(?:, ?)?)*+\} ' % ISO),
    ),
    Prefix("fluentd", re.compile(rb"(?P<stamp>%b)\t(?P<source>[\w.*/-]++)\t(?=\{)" % ISO)),
    Prefix(
        "Papertrail",
        re.compile(rb"[0-9]++\t(?P<stamp>%b)\t%b\t[0-9]++\t(?:[^\t\n]*+\t){4}(?P<source>[^\t\n]*+)\t" % (ISO, ISO)),
    ),
    Prefix(
        "stern",
        re.compile(
            rb"%b[a-z][a-z0-9.]*+-[a-z0-9.-]++ %b(?P<source>[a-z][a-z0-9-]*+) %b(?=\{|%b)" % (COLOR, COLOR, COLOR, CLF)
        ),
    ),
    Prefix(
        "a program's logger",
        re.compile(
            rb"(?=[^{]{0,200}?\b(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR)\b)\[?(?:(?P<stamp>%b)\b)?[^{]{1,200}+(?=\{\s*\")"
            % ISO
        ),
    ),
    Prefix(
        "stamps of a collector",
        re.compile(rb"(?P<stamp>%b) (?:(?P<source>[^\s{\"\[]*/\S*|[\w-]*\[[^\s\]]*+\]\S*) )?(?=\{|%b)" % (ISO, CLF)),
    ),
)


STREAMS = frozenset(("", "stdout", "stderr"))
# "web-1" and "web-2" are one service, and so are the processes of a program.
REPLICA = re.compile(r"(?:[-_.]?[0-9]++\]?| \S*)$")
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Sources:
    """The programs, containers or streams whose lines are in a log.

    Attributes
    ----------
    other : frozenset[str]
        Those whose lines are no requests.
    asking : tuple[str, ...]
        Those that have requests.
    """

    other: frozenset[str]
    asking: tuple[str, ...]

    @property
    def assumed(self) -> tuple[str, ...]:
        """Say where several services have requests, of which one may pass on what the other one has logged."""
        services = {REPLICA.sub("", name): name for name in self.asking if name not in STREAMS}
        if len(services) < 2:
            return ()
        names = ", ".join(printable(name) for name in list(services.values())[:SHOWN])
        return (f"sources: {len(services)} have requests ({names}); what one passes on to another is counted twice",)


class PrefixWrapper:
    """Takes a prefix off each line."""

    def __init__(self, prefix: Prefix, sources: Sources) -> None:
        groups = prefix.pattern.groupindex
        self.title = prefix.title
        self.assumed = sources.assumed
        self.in_order = "part" in groups
        self._match = prefix.pattern.match
        self._stamp, self._source, self._part = (groups.get(name, 0) for name in ("stamp", "source", "part"))
        self._other = sources.other
        self._parts: dict[bytes, bytes] = {}

    def peel(self, block: Block, stamps: bool = True) -> Peeled:
        """Return the lines inside."""
        lines = block.data.split(b"\n")
        lines.pop()
        match, other = self._match, self._other
        found = [match(line) for line in lines]
        inner = [line[m.end() :] if m else line for m, line in zip(found, lines, strict=True)]
        if other:
            for i, m in enumerate(found):
                if m and m[self._source].decode() in other:
                    inner[i] = b""
        if self._part and (self._parts or any(m and m[self._part] == b"P" for m in found)):
            self._join(found, inner)
        ignored = sum(map(bool, lines)) - sum(map(bool, inner))
        inner.append(b"")
        return Peeled(Block(b"\n".join(inner), block.line), self._stamps(found) if stamps else None, ignored)

    def close(self) -> Peeled | None:
        """Return the lines whose last part is missing."""
        lines = b"".join(part + b"\n" for part in self._parts.values())
        self._parts.clear()
        return Peeled(Block(lines), None, 0) if lines else None

    def _join(self, found: Sequence[re.Match[bytes] | None], inner: list[bytes]) -> None:
        parts = self._parts
        for i, m in enumerate(found):
            if not m or m[self._source].decode() in self._other:
                continue
            source = m[self._source]
            if m[self._part] == b"P":
                parts[source] = parts.get(source, b"") + inner[i]
                inner[i] = b""
            elif source in parts:
                inner[i] = parts.pop(source) + inner[i]

    def _stamps(self, found: Iterable[re.Match[bytes] | None]) -> pa.Array | None:
        group = self._stamp
        return pa.array([m[group] if m else None for m in found], pa.binary()).cast(pa.string()) if group else None


# Fields that hold a whole line, what they are called where; the first of them that does so is peeled.
MESSAGES = {
    "log": "Fluent Bit",
    "MESSAGE": "journald",
    "message": "a log shipper",
    "@message": "CloudWatch",
    "line": "Loki",
    "textPayload": "Google Cloud Logging",
    "short_message": "GELF",
    "_raw": "Splunk",
    "result._raw": "Splunk",
    "event.original": "Elastic",
    "_source.message": "Elastic",
    "_source.event.original": "Elastic",
    "attributes.message": "Datadog",
    "content": "a log shipper",
    "Content": "a log shipper",
    "Message": "a log shipper",
    "Line": "Loki",
    "body": "OpenTelemetry",
    "Body": "OpenTelemetry",
    "msg": "a logger",
}
STAMPS = (
    "time",
    "__REALTIME_TIMESTAMP",
    "@timestamp",
    "timestamp",
    "date",
    "ts",
    "_time",
    "result._time",
    "_source.@timestamp",
    "attributes.timestamp",
    "Timestamp",
    "Time",
    "Date",
    "timeUnixNano",
    "asctime",
    "datetime",
    "log_time",
)
CSV_MESSAGE = re.compile(rb'(?:^|[,;\t|])"?(?:@?message|Message|[Ll]ine|_raw|Content|content|textPayload)"?(?:$|[,;\t|])')
SOURCES = (
    "stream",
    "SYSLOG_IDENTIFIER",
    "_source.stream",
    "resource.labels.container_name",
    "kubernetes.container_name",
    "logger",
    "logger_name",
)
# An object with one of these fields beside the line is itself the record of a request, which the line repeats or shortens.
OWN = frozenset(
    ("status", "status_code", "statuscode", "method", "uri", "request_uri", "remote_addr", "client_ip", "remote_ip")
)
CLF_STAMP = re.compile(r"\[[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:")


class Envelope:
    """Takes lines out of the objects of one field. Docker has a line of more than 16 KiB in several."""

    def __init__(self, message: str, splitter: Splitter, sources: Sources, parted: bool) -> None:
        self.title = "docker's json-file" if parted else MESSAGES[message]
        self._message = message
        self._stamp = next((name for name in STAMPS if name in splitter.names), None)
        self._source = _source_field(splitter)
        self._splitter = splitter
        self.assumed = sources.assumed
        self._other = sources.other
        # Only docker keeps the line feeds. A text without one is the first part of a line.
        self._parted = parted
        self._parts: dict[str, str] = {}
        self.in_order = splitter.in_order or parted

    def peel(self, block: Block, stamps: bool = True) -> Peeled:
        """Return the lines inside."""
        return self._peeled(self._splitter.split(block, self._needed(stamps)), block)

    def close(self) -> Peeled | None:
        """Return the lines whose last part is missing, or that the splitter held back."""
        fields = self._splitter.close(self._needed(stamps=True))
        held = self._peeled(fields, Block(b"")) if fields is not None else None
        if self._parts:
            lines = "".join(part + "\n" for part in self._parts.values()).encode()
            self._parts.clear()
            return Peeled(Block(lines), None, 0)
        return held

    def _needed(self, stamps: bool) -> list[str]:
        return [name for name in (self._message, self._source, self._stamp if stamps else None) if name]

    def _peeled(self, fields: Fields, block: Block) -> Peeled:
        stamps = fields.columns.get(self._stamp) if self._stamp else None
        if not self._splitter.in_order and len(fields) == block.data.count(b"\n"):
            found = self._at_once(fields)
            if found is not None:
                return Peeled(Block(found[0], block.line), stamps, found[1])
        inner: list[str | None] = pc.cast(fields.columns[self._message], pa.string()).to_pylist()
        lost = inner.count(None) if self._splitter.in_order else 0
        if self._other or self._parted:
            self._drop(inner, _names(fields, self._source).to_pylist())
        lines = [_one_line(text) for text in inner]
        ignored = fields.ignored + sum(not line for line in lines) - lost
        if self._splitter.in_order:
            lines += [*fields.skipped, *["(no line)"] * lost]
            if stamps is not None:
                stamps = pa.concat_arrays([stamps, pa.nulls(len(lines) - len(stamps), stamps.type)])
        else:
            # A line that is no object, or has no message, stays where it is.
            n = block.data.count(b"\n")
            order = np.full(n, -1)
            held = np.array([text is not None for text in inner], bool)
            ignored -= int(np.count_nonzero(~held))
            order[(fields.line - block.line)[held]] = np.flatnonzero(held)
            raw = [b"" if line.strip() in PUNCTUATION else line for line in block.data.split(b"\n")]
            lines = [lines[i] if i >= 0 else raw[place].decode() for place, i in enumerate(order.tolist())]
            stamps = None if stamps is None else stamps.take(pa.array(order, mask=order < 0))
        data = "".join(text + "\n" for text in lines).encode("utf-8", "replace")
        return Peeled(Block(data.replace(b"\0", b""), block.line), stamps, ignored)

    def _at_once(self, fields: Fields) -> tuple[bytes, int] | None:
        """Take the lines out of their column as it lies in memory; None where a text is no line, or only part of one."""
        texts = fields.columns[self._message]
        if not pa.types.is_string(texts.type) or texts.null_count or self._parts:
            return None
        if self._other:
            assert self._source is not None
            other = pc.is_in(_names(fields, self._source), value_set=pa.array(sorted(self._other), pa.string()))
            texts = pc.if_else(other, "\n" if self._parted else "", texts)
        if not self._parted:
            texts = pc.binary_join_element_wise(texts, "", "\n")
        elif len(texts) and not pc.all(pc.ends_with(texts, "\n")).as_py():
            return None
        data = _bytes(texts)
        if data.count(b"\n") != len(texts) or b"\r" in data or b"\0" in data:
            return None
        return data, fields.ignored + int(pc.sum(pc.equal(texts, "\n")).as_py() or 0)

    def _drop(self, inner: list[str | None], sources: Sequence[str]) -> None:
        """Blank the lines of other sources, and those that are only the first part of a line."""
        parts = self._parts
        for i, (text, source) in enumerate(zip(inner, sources, strict=True)):
            if source in self._other:
                inner[i] = ""
            elif self._parted and text and not text.endswith("\n"):
                parts[source] = parts.get(source, "") + text
                inner[i] = ""
            elif parts and source in parts:
                inner[i] = parts.pop(source) + (text or "")


def _bytes(texts: pa.StringArray) -> bytes:
    """Return the texts one after the other."""
    _, offsets, data = texts.buffers()
    if data is None:
        return b""
    bounds = np.frombuffer(offsets, np.int32)
    first, last = int(bounds[texts.offset]), int(bounds[texts.offset + len(texts)])
    found: bytes = data.slice(first, last - first).to_pybytes()
    return found


def _one_line(text: str | None) -> str:
    if not text:
        return ""
    text = text[:-1] if text.endswith("\n") else text
    # What a program says at once is one record, whatever line feeds are in it.
    return text.rstrip("\r").replace("\n", " ") if "\n" in text or text.endswith("\r") else text


def _names(fields: Fields, source: str | None) -> pa.StringArray:
    """Return the source of each record, "" where it has none."""
    if source is None:
        return pa.array([""] * len(fields), pa.string())
    return pc.fill_null(pc.cast(fields.columns[source], pa.string()), "")


def _source_field(splitter: Splitter) -> str | None:
    return next((name for name in SOURCES if name in splitter.names), None)


class Nested:
    """One collector around another."""

    def __init__(self, outer: Wrapper, inner: Wrapper) -> None:
        self.title = f"{outer.title} around {inner.title}"
        self.assumed = (*outer.assumed, *inner.assumed)
        self.in_order = outer.in_order or inner.in_order
        self._outer, self._inner = outer, inner

    def peel(self, block: Block, stamps: bool = True) -> Peeled:
        """Return the lines inside of both, with the outer stamps if there are any: they are the more exact ones."""
        return self._inside(self._outer.peel(block, stamps), stamps)

    def close(self) -> Peeled | None:
        """Return the lines that either held back."""
        outer = self._outer.close()
        return self._inside(outer, stamps=True) if outer else self._inner.close()

    def _inside(self, outer: Peeled, stamps: bool) -> Peeled:
        inner = self._inner.peel(outer.block, stamps)
        return Peeled(inner.block, outer.stamps if outer.stamps is not None else inner.stamps, outer.ignored + inner.ignored)


def find_wrapper(block: Block) -> Wrapper | None:
    """Return what takes off the collector's part of each line of a source, given its first lines; None if there is none.

    At least half of the lines have the collector's form, and some line inside looks like a request. Programs, containers and
    streams that say nothing that looks like a request in the block are ignored from then on, where others do.
    """
    return _find(block, MAX_DEPTH)


def _find(block: Block, depth: int) -> Wrapper | None:
    make = _envelope(block) or _prefix(block)
    if make is None or depth == 1:
        return make() if make else None
    # The wrapper that looks inside may keep the first part of a line, and is not the one that is returned.
    inner = _find(make().peel(block, stamps=False).block, depth - 1)
    return Nested(make(), inner) if inner else make()


def _prefix(block: Block) -> Callable[[], Wrapper] | None:
    lines = [line for line in block.data.split(b"\n") if line.strip()]
    sample = lines[:SNIFFED_LINES]
    for prefix in PREFIXES:
        match = prefix.pattern.match
        if not sample or 2 * sum(match(line) is not None for line in sample) < len(sample):
            continue
        group = prefix.pattern.groupindex.get("source", 0)
        found = ((m, line) for line in lines if (m := match(line)))
        sources = _sources(((_name(m[group]) if group else "", line[m.end() :]) for m, line in found), prefix.only)
        if sources is not None:
            return partial(PrefixWrapper, prefix, sources)
    return None


def _envelope(block: Block) -> Callable[[], Wrapper] | None:
    header = block.data[: block.data.find(b"\n")]
    if header.lstrip().startswith((b"{", b"[")):
        splitter = JSON.splitter(block)
    else:
        splitter = CSV.splitter(block) if CSV_MESSAGE.search(header) else None
    if splitter is None:
        return None
    for message in _messages(splitter, block.data):
        source = _source_field(splitter)
        fields = splitter.split(block, [message, source] if source else [message])
        texts = pc.fill_null(pc.cast(fields.columns[message], pa.string()), "").to_pylist()
        whole = any(map(CLF_STAMP.search, texts))
        if not whole and OWN & {
            name.rpartition(".")[2].lower().lstrip("_") for name in splitter.names if not name.startswith(message)
        }:
            continue
        sources = _sources(
            zip(_names(fields, source).to_pylist(), (text.encode("utf-8", "replace") for text in texts), strict=True), None
        )
        if sources is not None:
            parted = message == "log" and 4 * sum(text.endswith("\n") for text in texts) >= len(texts)
            return partial(Envelope, message, splitter, sources, parted)
    return None


def _messages(splitter: Splitter, data: bytes) -> Iterator[str]:
    """List the fields that may hold whole lines. A line that is JSON itself is listed as its fields."""
    for message in MESSAGES:
        if message in splitter.names or any(name.startswith(message + ".") for name in splitter.names):
            last = re.escape(message.rpartition(".")[2].encode())
            if message in splitter.names or re.search(rb'"%b"\s*+:\s*+"' % last, data):
                yield message


def _sources(lines: Iterable[tuple[str, bytes]], only: str | None) -> Sources | None:
    """Tell the sources that ask from those that do not; None where none does."""
    asks: dict[str, bool] = {}
    for source, text in lines:
        if not asks.get(source):
            asks[source] = REQUEST.search(text) is not None and not NGINX_ERROR.match(text) and not APACHE_ERROR.match(text)
    if not any(asks.values()):
        return None
    repeated = only is not None and asks.get(only, False)
    other = frozenset(source for source, says in asks.items() if not says or (repeated and source != only))
    return Sources(other, tuple(source for source in asks if source not in other))


def _name(source: bytes | None) -> str:
    return source.decode() if source else ""
