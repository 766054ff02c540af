"""Cuts lines into the fields of templates: `TemplateSplitter`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from traffic.formats import template_kernel as kernel
from traffic.formats.base import Block, Fields, excerpt
from traffic.formats.compiled import compiled_function

REST = "rest"
# Below this many bytes plain Python is sooner done than numba is imported; and so it is until it has cut so many of them.
SMALL = 1 << 18
MANY_SMALL = 1 << 21


class Form(Protocol):
    """A template as the kernel needs it."""

    @property
    def names(self) -> tuple[str, ...]:
        """The fields' names."""

    def steps(self) -> Iterable[tuple[int, str, bytes, int]]:
        """Give the kind, the name, the literal behind it, and the flags of each field."""


class TemplateSplitter:
    """Cuts each line with the first of the templates that fits it.

    Parameters
    ----------
    templates : Sequence[Form]
        The first one that fits a line wins.
    guessed : bool, optional
        Whether the first one was told from the lines.

    Notes
    -----
    The text behind a template is the field `rest`. It begins behind a blank or a tab, and its quotes are closed.
    """

    in_order = False

    def __init__(self, templates: Sequence[Form], guessed: bool = False) -> None:
        self.templates = tuple(templates)
        self.guessed = guessed
        names = dict.fromkeys(name for template in templates for name in template.names)
        self.names: tuple[str, ...] = (*names, REST)
        self._literals, self._steps, self._fields, self._bounds = _program(self.templates)

    def split(self, block: Block, needed: Collection[str]) -> Fields:
        """Return the lines that fit, as columns of text; a field that a line has not got is null."""
        names = [name for name in self.names if name in needed and name != REST]
        starts, stops, fits, ends = self.cut(block, names)
        fitting = np.flatnonzero(fits >= 0)
        everything = len(fitting) == len(fits)
        columns: dict[str, pa.Array] = {}
        for name in needed:
            if name in self.names:
                row = len(names) if name == REST else names.index(name)
                first, last = (starts[row], stops[row]) if everything else (starts[row][fitting], stops[row][fitting])
                columns[name] = gathered(block.data, first, last)
            else:
                columns[name] = pa.nulls(len(fitting), pa.string())
        begins = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
        skipped = [excerpt(block.data[begins[row] : ends[row]]) for row in np.flatnonzero(fits == kernel.NO_FIT)]
        return Fields(columns, fitting + block.line, skipped)

    def cut(self, block: Block, names: Sequence[str]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Find where the fields `names` and the rest of each line lie, without copying them.

        Returns
        -------
        tuple of NDArray
            Starts and stops in the block, shape (len(names) + 1, lines), -1 for none; the number of the template that fits
            each line (or `NO_FIT`, `EMPTY`); and the place of each line's end.
        """
        data = np.frombuffer(block.data, np.uint8)
        ends = np.flatnonzero(data == 10)
        starts = np.full((len(names) + 1, len(ends)), -1, np.int32)
        stops = np.full((len(names) + 1, len(ends)), -1, np.int32)
        fits = np.empty(len(ends), np.int8)
        column = {name: row for row, name in enumerate(names)}
        rows = np.array([column.get(name, -1) for name in self._fields], np.int32)
        kinds, firsts, sizes, flags = self._steps
        program = (kinds, rows, firsts, sizes, flags, self._bounds)
        results = (starts, stops, fits)
        if _is_small(block.data):
            lists = [part.tolist() for part in program]
            kernel.cut(block.data, ends.tolist(), lists, self._literals, results)
        else:
            compiled_function(kernel.cut)(data, ends, program, np.frombuffer(self._literals or b" ", np.uint8), results)
        return starts, stops, fits, ends

    def close(self, needed: Collection[str]) -> Fields | None:
        """Return None: each line is a record of its own."""
        return None


_cut_plainly = 0  # bytes


def _is_small(data: bytes) -> bool:
    """Tell whether plain Python does; a directory of short logs is many bytes in the end."""
    global _cut_plainly
    if len(data) >= SMALL or _cut_plainly >= MANY_SMALL:
        return False
    _cut_plainly += len(data)
    return True


def _program(templates: Sequence[Form]) -> tuple[bytes, NDArray[np.int32], list[str], NDArray[np.int32]]:
    """Write the templates as steps of the kernel: literals, (kinds, firsts, sizes, flags), each step's field, bounds."""
    literals = b""
    steps: list[tuple[int, int, int, int]] = []
    fields: list[str] = []
    bounds = [0]
    for template in templates:
        for kind, name, literal, flags in template.steps():
            steps.append((kind, len(literals), len(literal), flags))
            fields.append(name)
            literals += literal
        bounds.append(len(steps))
    return literals, np.array(steps, np.int32).reshape(-1, 4).T.copy(), fields, np.array(bounds, np.int32)


def gathered(data: bytes, starts: NDArray[np.int32], stops: NDArray[np.int32]) -> pa.Array:
    """Copy the texts that start and stop at these places into a column; null where the start is -1."""
    n = len(starts)
    if _is_small(data):
        texts = [None if a < 0 else data[a:b].decode() for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]
        return pa.array(texts, pa.string())
    lengths = stops - starts
    offsets = np.zeros(n + 1, np.int32)
    out = np.empty(int(lengths.sum(dtype=np.int64)), np.uint8)
    compiled_function(kernel.gather)(np.frombuffer(data, np.uint8), starts, stops, offsets, out)
    missing = starts < 0
    nulls = int(np.count_nonzero(missing))
    valid = pa.py_buffer(np.packbits(~missing, bitorder="little")) if nulls else None
    return pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(out), valid, nulls)
