"""Leaves out the records that are no requests: `only_where`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc

from traffic.formats.base import Block, Fields, Format, Splitter


class Filtered:
    """Ignores the records of a splitter in which a field has another form than the one given."""

    def __init__(self, splitter: Splitter, only: Mapping[str, str]) -> None:
        self.names = splitter.names
        self.in_order = splitter.in_order
        self.inner = splitter
        self._only = {field: f"^(?:{pattern})$" for field, pattern in only.items()}

    def split(self, block: Block, needed: Collection[str]) -> Fields:
        """Return the records that are requests."""
        return self._filtered(self.inner.split(block, {*needed, *self._only}), needed)

    def close(self, needed: Collection[str]) -> Fields | None:
        """Return the requests that were held back."""
        fields = self.inner.close({*needed, *self._only})
        return None if fields is None else self._filtered(fields, needed)

    def _filtered(self, fields: Fields, needed: Collection[str]) -> Fields:
        keep = np.ones(len(fields), bool)
        for field, pattern in self._only.items():
            distinct = pc.dictionary_encode(pc.cast(fields.columns[field], "string"))
            fits = pc.fill_null(pc.match_substring_regex(distinct.dictionary, pattern), False).to_numpy(zero_copy_only=False)
            places = pc.fill_null(distinct.indices, -1).to_numpy(zero_copy_only=False)
            keep &= np.append(fits, False)[places]
        columns = {name: fields.columns[name] for name in needed}
        if keep.all():
            return replace(fields, columns=columns)
        kept = {name: column.filter(keep) for name, column in columns.items()}
        ignored = fields.ignored + len(keep) - int(np.count_nonzero(keep))
        return replace(fields, columns=kept, line=fields.line[keep], ignored=ignored)


class LinesOnly:
    """Ignores the lines that do not begin as the pattern says, before they are split."""

    def __init__(self, splitter: Splitter, pattern: bytes) -> None:
        self.names = splitter.names
        self.in_order = splitter.in_order
        self._splitter = splitter
        self._pattern = pattern

    @staticmethod
    def of(block: Block, pattern: bytes) -> Block:
        """Return the block with the other lines blank."""
        match = re.compile(pattern).match
        return Block(b"\n".join([line if match(line) else b"" for line in block.data.split(b"\n")]), block.line)

    def split(self, block: Block, needed: Collection[str]) -> Fields:
        """Return the records that are requests."""
        fields = self._splitter.split(self.of(block, self._pattern), needed)
        records = len(fields) + len(fields.skipped) + fields.ignored
        lines = sum(1 for line in block.data.split(b"\n") if line.strip())
        return replace(fields, ignored=fields.ignored + lines - records)

    def close(self, needed: Collection[str]) -> Fields | None:
        """Return the requests that were held back."""
        return self._splitter.close(needed)


def only_where(format: Format, only: Mapping[str, str]) -> Format:
    """Return a format whose records are ignored where a field, by its name, does not match the pattern, or is missing."""
    splitter: Callable[[Block], Splitter | None] = format.splitter

    def filtered(block: Block) -> Splitter | None:
        inner = splitter(block)
        return Filtered(inner, only) if inner is not None else None

    return replace(format, splitter=filtered)
