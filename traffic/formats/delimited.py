"""Reads lines of values with a separator between them by pyarrow: `read_delimited`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa


def read_delimited(
    data: bytes, separator: str, width: int, places: Mapping[str, int | None], nulls: Sequence[str], *, quoted: bool
) -> tuple[dict[str, pa.Array], list[int], list[str]]:
    """Read columns of text.

    Parameters
    ----------
    data : bytes
        Lines, which may not be blank; none at all give empty columns.
    separator : str
        One character.
    width : int
        How many values a line has. A line with another number of them is left out.
    places : Mapping[str, int or None]
        The place of each column, from 0; one that is None is a column of nulls.
    nulls : Sequence[str]
        Values that stand for nothing.
    quoted : bool
        Whether values may be quoted.

    Returns
    -------
    tuple of dict[str, pa.Array], list[int], list[str]
        The columns, and the places and texts of the lines that were left out.
    """
    import pyarrow.csv as pacsv

    if not data:
        return {name: pa.nulls(0, pa.string()) for name in places}, [], []
    bad: list[int] = []
    texts: list[str] = []

    def invalid(row: Any) -> str:
        bad.append(row.number - 1)
        texts.append(row.text)
        return "skip"

    names = [str(place) for place in range(width)]
    table = pacsv.read_csv(
        pa.py_buffer(data),
        pacsv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
        pacsv.ParseOptions(
            delimiter=separator,
            quote_char='"' if quoted else False,
            ignore_empty_lines=False,
            invalid_row_handler=invalid,
        ),
        pacsv.ConvertOptions(
            check_utf8=False,
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=sorted({str(place) for place in places.values() if place is not None}) or ["0"],
            null_values=list(nulls),
            strings_can_be_null=True,
        ),
    )
    columns = {
        name: pa.nulls(len(table), pa.string()) if place is None else table[str(place)].combine_chunks()
        for name, place in places.items()
    }
    return columns, bad, texts
