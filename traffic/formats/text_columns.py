"""Columns as text: `as_text`, `joined`, `map_distinct`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def as_text(column: pa.Array) -> pa.Array:
    """Return a column as text; null where it is null."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column
    if pa.types.is_integer(column.type) or pa.types.is_null(column.type):
        return column.cast(pa.string())
    return pa.array([None if value is None else json.dumps(value, default=str) for value in column.to_pylist()], pa.string())


def joined(columns: Sequence[pa.Array], missing: str | None = None) -> pa.Array:
    """Join the values of each row by blanks; where one is null so is the row, or `missing` takes its place."""
    import pyarrow.compute as pc

    if len(columns) == 1:
        return columns[0]
    texts = [as_text(column) for column in columns]
    if missing is not None:
        texts = [text.fill_null(missing) for text in texts]
    return pc.binary_join_element_wise(*texts, " ")


def map_distinct(column: pa.Array, function: Callable[[str], Any], type: pa.DataType) -> pa.Array:
    """Apply a function to each distinct text of a column; null stays null."""
    encoded = column.dictionary_encode()
    return pa.array(map(function, encoded.dictionary.to_pylist()), type).take(encoded.indices)


def is_valid(column: pa.Array) -> NDArray[np.bool_]:
    """Tell which values are not null, as a mask of numpy."""
    return np.asarray(column.is_valid().to_numpy(zero_copy_only=False), np.bool_)
