"""Columns of any type as `Raw` stamps: text, integers, floats, decimals, timestamps, dates, and dictionaries of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from traffic.times.stamp_forms import NUMBER as NUMBER_FORM
from traffic.times.stamp_forms import Order
from traffic.times.stamp_layouts import NAIVE, NOTHING, NUMBER, Raw, empty, read_text
from traffic.times.stamp_numbers import UNITS, in_scale


def read_column(values: pa.Array, order: Order) -> Raw:
    """Read what the values of a column say by themselves; those of a type that holds no times say nothing.

    Parameters
    ----------
    values : pa.Array
        Of n values.
    order : {"mdy", "dmy", "ymd"}
        Which two-digit numbers of "10/05/24" are the month, the day and the year.

    Returns
    -------
    Raw
        Of length n.
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    type_ = values.type
    if pa.types.is_dictionary(type_):
        if len(values.dictionary) > len(values):  # a slice of a long column
            return read_column(values.dictionary_decode(), order)
        return read_column(values.dictionary, order).take(values.indices.fill_null(-1).to_numpy().astype(np.int64))
    if _is_text(type_) or pa.types.is_decimal(type_):
        return read_text(values.cast(pa.string()), order)
    if pa.types.is_integer(type_):
        return _of_integers(values)
    if pa.types.is_floating(type_):
        return _of_floats(values)
    if pa.types.is_date(type_):
        raw = _of_timestamps(values.cast(pa.timestamp("s")))
        raw.grain[:] = 86400.0
        return raw
    return _of_timestamps(values) if pa.types.is_timestamp(type_) else empty(len(values))


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def _of_integers(values: pa.Array) -> Raw:
    raw = empty(len(values))
    there = values.is_valid().to_numpy(zero_copy_only=False)
    integers = values.fill_null(0).to_numpy(zero_copy_only=False)
    raw.kind[:] = np.where(there & (integers <= np.iinfo(np.int64).max), NUMBER, NOTHING)
    raw.whole[:] = integers.astype(np.int64)
    raw.grain[:] = 1.0
    raw.forms[NUMBER_FORM.name] = len(values)
    return raw


def _of_floats(values: pa.Array) -> Raw:
    """Take a column of float64 for numbers; they are exact unless all of them are whole."""
    raw = empty(len(values))
    reals = values.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    good = np.abs(reals) < 2.0**63
    kept = np.where(good, reals, 0.0)
    raw.kind[:] = np.where(good, NUMBER, NOTHING)
    raw.whole[:] = kept.astype(np.int64)
    raw.fraction[:] = kept - raw.whole
    raw.grain[:] = 0.0 if raw.fraction.any() else 1.0
    raw.forms[NUMBER_FORM.name] = len(values)
    return raw


def _of_timestamps(values: pa.Array) -> Raw:
    """Take timestamps for stamps, local ones where their type has no zone."""
    raw = _of_integers(values.cast(pa.int64()))
    chosen = np.flatnonzero(raw.kind == NUMBER)
    in_scale(raw, chosen, UNITS[values.type.unit])
    raw.east[chosen] = NAIVE if values.type.tz is None else 0
    raw.forms.clear()
    raw.forms["timestamp"] = len(chosen)
    return raw
