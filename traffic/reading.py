"""`Reading`: how logs are read, source by source: what each one is, what its fields mean, and what was assumed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import fields
from datetime import UTC, timedelta, timezone, tzinfo
from itertools import chain
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa

from traffic.anonymize import Anonymizer
from traffic.expression import ExpressionError
from traffic.formats import FORMATS
from traffic.formats.base import Block, Fields, FormatMismatchError, Roles, Splitter
from traffic.formats.choice import Choice, choose_format, choose_template, head
from traffic.formats.collector import Collector
from traffic.formats.field_selection import FieldSelection, asked_fields
from traffic.formats.filtered import Filtered
from traffic.formats.json_records import JSONLines, JSONStream
from traffic.formats.logfmt import Pairs
from traffic.formats.nginx_config import read_log_format
from traffic.formats.parquet import Table
from traffic.formats.refused import without_own_lines
from traffic.formats.requests import RequestReader
from traffic.formats.roles import resolve
from traffic.formats.template_splitter import TemplateSplitter
from traffic.formats.text_columns import joined
from traffic.formats.wrappers import Peeled, Wrapper, find_wrapper
from traffic.inputs.files import LogError
from traffic.inputs.sources import MOST_SENTENCES, Source, Sources
from traffic.open_log import LOGGED_AT, OpenLog, Piece, numbered, piece, stamp
from traffic.times.timestamps import TIME_UNITS, Judgement, Stamps, TimeError, TimeReader, TimeUnit
from traffic.trace import Trace

__all__ = ["Reading", "only_trace", "parse_zone"]

SAMPLED_LINES = 2000  # whose values tell what the fields mean


class Reading:
    """How logs are read, and what was assumed of each.

    Parameters
    ----------
    asked : FieldSelection
        The fields.
    format, log_format : str or None
        As of `read_log`.
    anonymize : Anonymizer or None
        Replaces names.
    lines : int or None
        About how many lines of each source are read.
    """

    def __init__(
        self,
        asked: FieldSelection,
        *,
        format: str | None = None,
        log_format: str | None = None,
        anonymize: Anonymizer | None = None,
        lines: int | None = None,
    ) -> None:
        if format is not None and format not in FORMATS:
            raise LogError(f"unknown format {format[:80]!r}; the formats known are {', '.join(FORMATS)}")
        if format is not None and log_format is not None:
            raise LogError("format and log_format: give one of them")
        if asked.time_unit is not None and asked.time_unit not in TIME_UNITS:
            raise LogError(f"unknown time_unit {asked.time_unit[:80]!r}; the units known are {', '.join(TIME_UNITS)}")
        self.asked = asked
        self.format = format
        self.anonymize = anonymize
        self.lines = lines
        self.zone = parse_zone(asked.time_zone)
        self.template = None if log_format is None else read_log_format(log_format)
        self._assumed: dict[str, list[str]] = {}  # and of which sources
        self._formats: dict[str, None] = {}
        self._chosen: Choice | None = None  # of the source before
        self._names: list[str] = []
        self.left_out: list[str] = []  # sentences on what was handed in and is no log, or is there twice
        self._reader: RequestReader  # of the source that is being read

    def collect(self, source: Source, collector: Collector) -> None:
        """Read a source to its end; raises LogError. One that is no log is left out, unless it was named itself."""
        before = collector.added
        counted = collector.skipped, collector.ignored, len(collector.examples)
        costless = collector.costless
        unnamed: frozenset[str] | None = None  # fields in which no request has anything
        try:
            with closing(self._pieces(source)) as pieces:
                for piece in pieces:
                    collector.skip(piece.skipped, piece.examples)
                    collector.ignored += piece.ignored
                    collector.add(piece.requests, self._reader.times)
                    unnamed = piece.requests.unnamed if unnamed is None else unnamed & piece.requests.unnamed
            if collector.added == before:
                if collector.costless > costless:
                    raise FormatMismatchError("has no number in a field of the cost in any line; name another --cost")
                some = collector.skipped - counted[0]
                none = f"none of its {some:,} lines is a request" if some else "is empty"
                raise FormatMismatchError(f"{none}; name a log that has requests")
            self._check_named(unnamed or frozenset())
        except FormatMismatchError as error:
            if source.is_named or collector.added > before:
                raise LogError(f"{source.name}: {error}") from error
            # Other files lie beside the logs in a directory or an archive.
            collector.skipped, collector.ignored, _ = counted
            collector.costless = costless
            del collector.examples[counted[2] :]
            self.left_out.append(f"{source.name}: {error}".partition("; ")[0])
            return
        except ExpressionError as error:
            raise LogError(f"{source.name}: cost: {error}") from error
        except TimeError as error:
            raise LogError(f"{source.name}: time: {error}") from error
        collector.end_source(self._reader.times)
        self._names.append(source.name)
        for text in self._reader.times.notes():
            self._assumed.setdefault(f"time: {text}", []).append(source.name)

    def _check_named(self, unnamed: frozenset[str]) -> None:
        """Raise FormatMismatchError if a field that was asked for, or that makes the key, is empty in every line."""
        roles = self._reader.roles
        if self.asked.status is not None and roles.status in unnamed:  # first, since the key may be of the same field
            field = f"in the field {roles.status!r} in any line"
            raise FormatMismatchError(f"has no status (100 to 999) {field}; name another --status")
        for part in roles.key:
            if (field := "+".join(part.fields)) in unnamed:
                raise FormatMismatchError(f"has nothing in the field {field!r} of the key in any line; name another --key")

    def trace(self, collector: Collector) -> Trace:
        """Make the trace of all sources that were collected; raises LogError."""
        try:
            trace = collector.trace(self.source, self.assumed, self.formats)
        except FormatMismatchError as error:
            raise LogError(f"{self.source}: {error}") from error
        return trace if self.anonymize is None else self.anonymize.trace(trace)

    @property
    def formats(self) -> str:
        """What the sources were read as."""
        return "; ".join(self._formats)

    @property
    def source(self) -> str:
        """The name of the sources, in a few words. Raises LogError where there are none."""
        if not self._names:
            raise LogError(f"{self.left_out[0]}, and none of {len(self.left_out)} files is a log; name one")
        first, others = self._names[0], len(self._names) - 1
        return first if not others else f"{first} and {others} more"

    @property
    def assumed(self) -> list[str]:
        """What was assumed; a sentence that does not hold for all sources names the first one."""
        read = set(self._names)
        said = {text: [name for name in where if name in read] for text, where in self._assumed.items()}
        texts = [text if len(where) == len(read) else f"{where[0]}: {text}" for text, where in said.items() if where]
        return [*texts, *(f"files: {text}" for text in self.left_out[:MOST_SENTENCES])]

    def _pieces(self, source: Source) -> Generator[Piece, None, None]:
        if source.is_parquet:
            yield from self._parquet(source)
            return
        blocks = numbered(source.blocks(), self.lines)
        first = next((block for block in blocks if block.data.strip()), None)
        if first is None:
            raise FormatMismatchError("is empty; name a log that has lines")
        yield from self._open(source, first).pieces(chain([first], blocks))

    def _open(self, source: Source, first: Block) -> OpenLog:
        wrapper = find_wrapper(first)
        peeled = Peeled(first, None, 0) if wrapper is None else wrapper.peel(first)
        try:
            choice = self._choice(peeled.block)
        except FormatMismatchError:
            if wrapper is None or (self.template is None and self.format is None):
                raise
            # The format that was asked for may be one of the whole line.
            choice, wrapper, peeled = self._choice(first), None, Peeled(first, None, 0)
        splitter = choice.splitter()
        names = _single(splitter.names, self.asked)
        names += _rare(choice.splitter(), peeled.block, asked_fields(self.asked, names))
        sample = _all_of(splitter, head(peeled.block, SAMPLED_LINES), names)
        stamped = False
        judge = _Judge(self.asked.time_unit, self.zone)
        declared = self.template is not None or not isinstance(splitter, TemplateSplitter)
        try:
            roles = resolve(self.asked, sample, names, choice.roles, judge, declared)
        except FormatMismatchError as error:
            if peeled.stamps is None:
                raise
            sample, stamped = stamp(sample, peeled), True
            try:
                roles = resolve(self.asked, sample, (*names, LOGGED_AT), choice.roles, judge, declared)
            except FormatMismatchError:
                raise error from None
        self._say(source, choice, wrapper, roles)
        self._chosen = choice
        again = None if wrapper is None else find_wrapper(first)  # the first one may have held lines back
        return OpenLog(again, choice.splitter(), self._made(roles, sample), stamped)

    def _choice(self, block: Block) -> Choice:
        if self.template is None:
            return choose_format(without_own_lines(block), FORMATS, self.format, self._chosen)
        return choose_template(block, self.template)

    def _parquet(self, source: Source) -> Iterator[Piece]:
        assert source.path is not None
        file = Table(source.path)
        sample = file.sample()
        roles = resolve(self.asked, sample, file.names, {}, _Judge(self.asked.time_unit, self.zone))
        self._say(source, None, None, roles)
        reader, rows = self._made(roles, sample), 0
        for group in file.batches(reader.needed):
            yield piece(reader.read(group), group, None)
            rows += len(group)
            if self.lines is not None and rows >= self.lines:
                return

    def _made(self, roles: Roles, sample: Fields) -> RequestReader:
        """Make the reader of a source; the times of its first records decide what a single one leaves open."""
        times = TimeReader(self.asked.time_unit, self.zone)
        times.learn(joined([sample.columns[name] for name in roles.time]))
        self._reader = RequestReader(roles, times)
        return self._reader

    def _say(self, source: Source, choice: Choice | None, wrapper: Wrapper | None, roles: Roles) -> None:
        """Remember what was assumed of a source."""
        read = "parquet" if choice is None else str(choice)
        self._formats[f"{read} in {wrapper.title}" if wrapper else read] = None
        said = [*roles.assumed, *(wrapper.assumed if wrapper else ())]
        if choice is not None and choice.template:
            said.insert(0, f"format: guessed from the lines, as --log-format '{choice.template}'")
        for text in said:
            self._assumed.setdefault(text, []).append(source.name)


def _rare(splitter: Splitter, block: Block, asked: Sequence[str]) -> list[str]:
    """List the fields that were asked for and that some record has, though none of those from which names are taken."""
    inner = splitter.inner if isinstance(splitter, Filtered) else splitter
    if not asked or not isinstance(inner, JSONLines | JSONStream | Pairs):
        return []
    columns = _all_of(splitter, block, asked).columns
    return [name for name in asked if columns[name].null_count < len(columns[name])]


class _Judge:
    """Judges fields as times, each by itself."""

    def __init__(self, unit: TimeUnit | None, zone: tzinfo | None) -> None:
        self._unit, self._zone = unit, zone

    def judge(self, values: pa.Array) -> Judgement:
        """Tell whether these values can be times of requests."""
        return TimeReader(self._unit, self._zone).judge(values)

    def read(self, values: pa.Array) -> Stamps:
        """Read these values."""
        return TimeReader(self._unit, self._zone).read(values)


def parse_zone(text: str | None) -> tzinfo | None:
    """Return the zone "Europe/Berlin", "+02:00" or "UTC"; raises LogError."""
    if text is None:
        return None
    offset = re.fullmatch(r"(?:UTC|GMT)?([+-])(\d{1,2}):?([0-5]\d)?", text, re.ASCII)
    if offset and int(offset[2]) < 24:
        east = timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
        return timezone(east if offset[1] == "+" else -east)
    if text in ("UTC", "Z", "GMT"):
        return UTC
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise LogError(f"time_zone {text[:80]!r}: is no zone that is known; write Europe/Berlin or +02:00") from None


def _all_of(splitter: Splitter, block: Block, names: Sequence[str]) -> Fields:
    """Cut a block that has no other behind it."""
    fields = splitter.split(block, names)
    held = splitter.close(names)
    if held is None or not len(held):
        return fields
    columns = {name: pa.concat_arrays([fields.columns[name], held.columns[name]]) for name in names}
    return Fields(columns, np.concatenate([fields.line, held.line]), [*fields.skipped, *held.skipped], fields.ignored)


def _single(names: Sequence[str], asked: FieldSelection) -> list[str]:
    """Return the names that only one column has; raises FormatMismatchError if another one was asked for."""
    count = Counter(names)
    for wanted in (getattr(asked, each.name) for each in fields(asked)):
        if wanted is not None and count[wanted] > 1:
            raise FormatMismatchError(f"has {count[wanted]} columns called {wanted!r}; give them names of their own")
    return [name for name in names if count[name] == 1]


def only_trace(source: Source, found: Sources, reading: Reading) -> Trace:
    """Read a trace that was written as one, if nothing else is asked of it."""
    asked = [each.name for each in fields(reading.asked) if getattr(reading.asked, each.name) is not None]
    if asked or reading.format or reading.template:
        problem = f"is a trace, whose requests have their keys and costs; leave {asked[0] if asked else 'the format'} out"
        raise LogError(f"{source.name}: {problem}")
    assert source.path is not None
    trace = Trace.from_parquet(source.path) if source.is_parquet else Trace.from_csv(source.path)
    if next(found, None) is not None:
        raise LogError(f"{source.name}: is a trace and is read alone; convert the logs to one trace instead")
    return trace if reading.anonymize is None else reading.anonymize.trace(trace)
