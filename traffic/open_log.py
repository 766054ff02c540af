"""`OpenLog`: a source of which is known how to read it; its blocks become requests, in threads where they can."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from traffic.formats.base import Block, Fields, Splitter
from traffic.formats.collector import EXAMPLES
from traffic.formats.refused import is_own_line
from traffic.formats.requests import RequestReader, Requests
from traffic.formats.wrappers import Peeled, Wrapper
from traffic.provenance import EXAMPLE_CHARACTERS

__all__ = ["LOGGED_AT", "OpenLog", "Piece", "numbered", "piece", "stamp"]

MOST_THREADS = 8
LOGGED_AT = "logged_at"  # the stamp of what wraps a line, as a field


@dataclass(frozen=True, slots=True)
class Piece:
    """What one block gave. skipped: how many lines did not parse; examples: the first of them."""

    requests: Requests
    skipped: int
    examples: Sequence[str]
    ignored: int


@dataclass(frozen=True, slots=True)
class OpenLog:
    """A source of which is known how to read it."""

    wrapper: Wrapper | None
    splitter: Splitter
    reader: RequestReader
    stamped: bool

    def pieces(self, blocks: Iterator[Block]) -> Iterator[Piece]:
        """Read the blocks, by several threads where they are independent of each other; pieces come in their order."""
        if self.splitter.in_order or (self.wrapper is not None and self.wrapper.in_order):
            yield from map(self._piece, blocks)
            rest = None if self.wrapper is None else self.wrapper.close()
            if rest is not None:
                yield self._peeled(rest)
            held = self.splitter.close(self.reader.needed)
            if held is not None:
                yield self._read(held, None)
        else:
            yield from _in_threads(self._piece, blocks)

    def _piece(self, block: Block) -> Piece:
        """Read a block."""
        if self.wrapper is None:
            return self._read(self.splitter.split(block, self.reader.needed), block)
        return self._peeled(self.wrapper.peel(block, stamps=self.stamped))

    def _peeled(self, peeled: Peeled) -> Piece:
        fields = self.splitter.split(peeled.block, self.reader.needed)
        if self.stamped:
            fields = stamp(fields, peeled)
        return self._read(fields, peeled.block, peeled.ignored)

    def _read(self, fields: Fields, block: Block | None, ignored: int = 0) -> Piece:
        return piece(self.reader.read(fields), fields, block, ignored)


def piece(requests: Requests, fields: Fields, block: Block | None, ignored: int = 0) -> Piece:
    """Join the requests of a block with the count of its lines that are none."""
    lost = [line for line in fields.skipped if not is_own_line(line)]
    examples = [*lost[:EXAMPLES], *_texts(block, requests.lost[:EXAMPLES])]
    ignored += fields.ignored + requests.ignored + len(fields.skipped) - len(lost)
    return Piece(requests, len(lost) + len(requests.lost), examples, ignored)


def stamp(fields: Fields, peeled: Peeled) -> Fields:
    """Add the stamps of what wrapped the lines, as the field `LOGGED_AT`."""
    if peeled.stamps is None:  # a line whose end is missing has none
        stamps = pa.nulls(len(fields), pa.string())
    else:
        stamps = peeled.stamps.take(pa.array(fields.line - peeled.block.line))
    return replace(fields, columns={**fields.columns, LOGGED_AT: stamps})


def _in_threads(work: Callable[[Block], Piece], blocks: Iterator[Block]) -> Iterator[Piece]:
    """Map blocks in threads, a few ahead, in their order."""
    threads = min(len(os.sched_getaffinity(0)), MOST_THREADS)
    first = next(blocks, None)
    second = next(blocks, None)
    if threads == 1 or second is None:
        yield from map(work, chain(filter(None, (first, second)), blocks))
        return
    with ThreadPoolExecutor(threads, "read_log") as pool:
        due: deque[Future[Piece]] = deque()
        try:
            for block in chain(filter(None, (first, second)), blocks):
                due.append(pool.submit(work, block))
                if len(due) > threads + 1:
                    yield due.popleft().result()
            while due:
                yield due.popleft().result()
        finally:
            for each in due:
                each.cancel()


def numbered(blocks: Iterator[bytes], lines: int | None) -> Iterator[Block]:
    """Count the lines of the blocks; end behind the block in which line `lines` is."""
    line = 1
    for data in blocks:
        yield Block(data, line)
        line += data.count(b"\n")
        if lines is not None and line > lines:
            return


def _texts(block: Block | None, numbers: NDArray[np.int64]) -> list[str]:
    """Return lines of a block by their numbers; a record that began before it has no text."""
    if block is None or not len(numbers):
        return [f"line {number}" for number in numbers.tolist()]
    lines = block.data.split(b"\n")
    inside = [number - block.line for number in numbers.tolist()]
    return [
        lines[each].decode("utf-8", "replace")[:EXAMPLE_CHARACTERS]
        if 0 <= each < len(lines)
        else f"line {each + block.line}"
        for each in inside
    ]
