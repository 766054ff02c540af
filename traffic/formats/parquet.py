"""Parquet and Feather (Arrow) files of any tool: columns by name, read a group of rows at a time.

Only the columns that are needed are read. A column inside a struct is a path: "httpRequest.status". Times and dates become
text as in ISO 8601, with Z where their column has a zone, so that they are read like those of any other log. A list is its
first element.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any

import numpy as np
import pyarrow as pa

from traffic.formats.base import Fields, FormatMismatchError
from traffic.formats.text_columns import is_valid

Steps = tuple[str, ...]

# Footers above 100 MB, the reader's default bound, are those of tables with very many columns or groups.
FOOTER_BYTES = 2**31 - 1
# Encodings of runs let a small file claim any number of rows.
FREE_ROWS, ROWS_PER_BYTE = 1_000_000, 50
ROWS_AT_A_TIME = 1 << 16
SAMPLE_ROWS = 1000
MAX_NAMES = 1000
ARROW = b"ARROW1"


class Table:
    """A file of columns.

    Parameters
    ----------
    path : str or PathLike
        The file.

    Attributes
    ----------
    names : tuple[str, ...]
        The fields, in the file's order; those of a struct are paths, and stand in its place.
    rows : int
        The number of rows.

    Raises
    ------
    FormatMismatchError
        If the file is damaged, or claims more rows than its size can hold.
    OSError
        If it cannot be read.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        with open(path, "rb") as file:
            first = file.read(8)
            size = os.fstat(file.fileno()).st_size
        self._path = path
        self._arrow = first.startswith(ARROW)
        with _checked():
            schema, self.rows = self._describe()
        if self.rows > FREE_ROWS + ROWS_PER_BYTE * size:
            raise FormatMismatchError(f"claims {self.rows} rows in {size} bytes and is damaged; write it again")
        self._paths = _paths(schema)
        self.names = tuple(self._paths)

    def sample(self) -> Fields:
        """Return all fields of the first thousand rows."""
        for fields in self.batches(self.names, SAMPLE_ROWS):
            return fields
        return Fields(dict.fromkeys(self.names, pa.nulls(0, pa.string())), np.zeros(0, np.int64))

    def batches(self, needed: Collection[str], rows: int = ROWS_AT_A_TIME) -> Iterator[Fields]:
        """Yield the fields `needed`, `rows` rows at a time. A field that there is not is a column of nulls.

        Raises
        ------
        FormatMismatchError
            If the file is damaged.
        """
        first = 1
        with _checked():
            for batch in self._read([self._paths[name] for name in needed if name in self._paths], rows):
                n = batch.num_rows
                columns = {
                    name: _column(batch, self._paths[name]) if name in self._paths else pa.nulls(n, pa.string())
                    for name in needed
                }
                yield Fields(columns, np.arange(first, first + n))
                first += n

    def _describe(self) -> tuple[pa.Schema, int]:
        if self._arrow:
            with pa.ipc.open_file(self._path) as file:
                return file.schema, sum(file.get_batch(i).num_rows for i in range(file.num_record_batches))
        with _parquet(self._path) as file:
            return file.schema_arrow, file.metadata.num_rows

    def _read(self, paths: Sequence[Steps], rows: int) -> Iterator[pa.RecordBatch]:
        if self._arrow:
            with pa.ipc.open_file(self._path) as file:
                for i in range(file.num_record_batches):
                    batch = file.get_batch(i)
                    yield from (batch.slice(start, rows) for start in range(0, batch.num_rows, rows))
        else:
            with _parquet(self._path) as file:
                # A row group is read in pieces, so that its size does not matter.
                yield from file.iter_batches(rows, columns=[".".join(steps) for steps in paths], use_threads=False)


@contextmanager
def _checked() -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise FormatMismatchError("is a file of columns that is damaged or cut short; write it again") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise FormatMismatchError("is a file of columns that is damaged or cut short; write it again") from error


def _parquet(path: str | PathLike[str]) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path, thrift_string_size_limit=FOOTER_BYTES, thrift_container_size_limit=FOOTER_BYTES)


def _paths(schema: pa.Schema) -> dict[str, Steps]:
    """List the steps to each column, by its path; a column that has that very name goes before the path."""
    left: list[tuple[Steps, pa.DataType]] = [((field.name,), field.type) for field in reversed(list(schema))]
    own = {field.name: (field.name,) for field in schema if not pa.types.is_struct(field.type)}
    paths: dict[str, Steps] = {}
    while left and len(paths) < MAX_NAMES:
        steps, type_ = left.pop()
        if pa.types.is_struct(type_):
            left += [((*steps, field.name), field.type) for field in reversed(list(type_))]
        elif not pa.types.is_map(type_):
            name = ".".join(steps)
            paths.setdefault(name, own.get(name, steps))
    return paths


def _column(batch: pa.RecordBatch, steps: Steps) -> pa.Array:
    if batch.schema.names.count(steps[0]) > 1:
        raise FormatMismatchError(f"has several columns called {steps[0]!r}; give them names of their own")
    import pyarrow.compute as pc

    array = batch.column(steps[0])
    for step in steps[1:]:
        array = pc.struct_field(array, step)
    return _plain(array)


def _plain(array: pa.Array) -> pa.Array:
    """Return the column as text, int64 or float64."""
    types, type_ = pa.types, array.type
    if types.is_dictionary(type_):
        return _plain(array.dictionary).take(array.indices)
    if types.is_list(type_) or types.is_large_list(type_):
        empty = np.diff(array.offsets.to_numpy()) == 0
        return _plain(array.values.take(pa.array(array.offsets.to_numpy()[:-1], mask=empty | ~is_valid(array))))
    if types.is_timestamp(type_) and type_.tz is not None:
        array = array.cast(pa.timestamp(type_.unit, "UTC"))
    elif (types.is_integer(type_) and type_ != pa.uint64()) or (types.is_decimal(type_) and type_.scale == 0):
        return array.cast(pa.int64())
    elif types.is_floating(type_) or types.is_decimal(type_):
        return array.cast(pa.float64())
    elif types.is_binary(type_) or types.is_large_binary(type_) or types.is_fixed_size_binary(type_):
        values = [None if value is None else value.decode("utf-8", "backslashreplace") for value in array.to_pylist()]
        return pa.array(values, pa.string())
    elif types.is_nested(type_):
        return pa.array([None if value is None else str(value) for value in array.to_pylist()], pa.string())
    return array.cast(pa.string())
