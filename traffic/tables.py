"""The columns of a trace as a pandas frame, a parquet file and a csv file, and back, without loss of a bit.

Rows spell out the names of keys and endpoints, so that any other tool can read them. The rest (names that no row uses, the
order of names, the provenance) travels as JSON: in the parquet schema's metadata, or in a comment line that comes first in
the csv file. This module knows columns, not `Trace`, so that trace.py loads pandas and pyarrow only on use.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict
from io import BufferedReader
from os import PathLike
from typing import IO, Any, NamedTuple, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from traffic.columns import default_grain
from traffic.inputs.files import LogError, open_regular
from traffic.inputs.sources import Source
from traffic.provenance import Provenance, TraceError, printable

FilePath = str | PathLike[str]
Fields = dict[str, Any]

VERSION = 1
ROWS_AT_A_TIME = 100_000
ROWS_OF_A_GROUP = 1_000_000
METADATA = b"traffic.trace"
COMMENT = b"# traffic.trace "
COLUMNS = {
    "time": pa.float64(),
    "key": pa.string(),
    "cost": pa.float64(),
    "session": pa.int64(),
    "endpoint": pa.string(),
}
# Optional: logs without status codes have none, and a grain is written where it is not what the times say.
OPTIONAL = {"status": pa.uint16(), "grain": pa.float32()}
NUMBERS = ("time", "cost", "session", "status", "grain")
# Footers above 100 MB, the reader's default bound, are reached with some five million keys.
FOOTER_BYTES = 2**31 - 1
FREE_ROWS, ROWS_PER_BYTE = 1_000_000, 50


def frame(fields: Fields) -> pd.DataFrame:
    """Make a frame of one row per request: time, key, cost, session, endpoint, and status if known.

    Key and endpoint are categorical.
    """
    answered = {} if fields["status"] is None else {"status": fields["status"]}
    return pd.DataFrame(
        {
            "time": fields["time"],
            "key": _categories(fields["key"], fields["keys"]),
            "cost": fields["cost"],
            "session": fields["session"],
            "endpoint": _categories(fields["endpoint"], fields["endpoints"]),
            **answered,
        }
    )


def _categories(codes: NDArray[np.integer[Any]], names: tuple[str, ...]) -> pd.Categorical[str]:
    return pd.Categorical.from_codes(codes, categories=pd.Index(names, dtype=str))


def write_parquet(path: FilePath, fields: Fields) -> None:
    """Write the fields of a trace; column types are float64, dictionary of string, and int64."""
    table = _table(fields).replace_schema_metadata({METADATA: _metadata(fields)})
    pq.write_table(table, path, compression="zstd")


class Rename(NamedTuple):
    """What becomes of the names in a file; unless given they stay."""

    keys: Callable[[Iterable[str]], list[str]] = list
    endpoints: Callable[[Iterable[str]], list[str]] = list
    provenance: Callable[[Provenance], Provenance] = lambda origin: origin


AS_THEY_ARE = Rename()


class TraceWriter:
    """Writes a parquet file of a trace whose requests come in blocks; `read_parquet` reads it."""

    def __init__(self, path: FilePath, rename: Rename = AS_THEY_ARE) -> None:
        self._path = path
        self._rename = rename
        self._held: list[dict[str, NDArray[Any]]] = []
        self._rows = 0
        self._answered = False
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, columns: dict[str, NDArray[Any]], keys: Collection[str], endpoints: Collection[str]) -> None:
        """Add requests; `keys` and `endpoints` are the names so far, in the order of their numbers."""
        self._held.append(columns)
        self._rows += len(columns["time"])
        if self._rows >= ROWS_OF_A_GROUP:
            self._flush(keys, endpoints)

    def finish(self, keys: Collection[str], endpoints: Collection[str], provenance: Provenance) -> None:
        """Write what is left, and what concerns all requests."""
        self._flush(keys, endpoints)
        assert self._writer is not None
        names = {"keys": self._rename.keys(keys), "endpoints": self._rename.endpoints(endpoints)}
        about = {**names, "provenance": self._rename.provenance(provenance)}
        absent = () if self._answered else ("status",)
        self._writer.add_key_value_metadata({METADATA: _metadata(about, absent)})

    def _flush(self, keys: Collection[str], endpoints: Collection[str]) -> None:
        if not self._held:
            return
        fields: Fields = {name: np.concatenate([held[name] for held in self._held]) for name in self._held[0]}
        self._held, self._rows = [], 0
        self._answered |= bool(fields["status"].any())
        arrays = {name: pa.array(fields[name], type_) for name, type_ in (COLUMNS | OPTIONAL).items() if name in NUMBERS}
        for column, names, rename in (("key", keys, self._rename.keys), ("endpoint", endpoints, self._rename.endpoints)):
            used, code = np.unique(fields[column], return_inverse=True)
            known = list(names)
            spelled = pa.array(rename([known[each] for each in used.tolist()]), pa.string())
            arrays[column] = pa.DictionaryArray.from_arrays(pa.array(code.astype(np.int32)), spelled)
        table = pa.table({name: arrays[name] for name in (*COLUMNS, *OPTIONAL)})
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="zstd")
        self._writer.write_table(table)


def read_parquet(path: FilePath) -> Fields:
    """Read the fields that `write_parquet` wrote; raises TraceError, naming the file."""
    try:
        with _open(path) as source, _parquet_file(source) as file:
            rows, size = file.metadata.num_rows, os.fstat(source.fileno()).st_size
            # Encodings of runs let a small file claim any number of rows.
            if rows > FREE_ROWS + ROWS_PER_BYTE * size:
                raise TraceError(f"{path}: claims {rows} rows in {size} bytes; it is damaged")
            table = file.read()
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or _line(error)}") from error
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: is not a parquet file, or is damaged") from error
    return _fields(path, table, (table.schema.metadata or {}).get(METADATA))


def is_trace(source: Source) -> bool:
    """Tell whether a file was written by a Trace, by its first bytes or by what a parquet file says of itself."""
    if source.path is None:
        return False
    if not source.is_parquet:
        return source.first().startswith(COMMENT)
    try:
        with _open(source.path) as stored:
            if not stored.peek(4).startswith(b"PAR1"):  # Arrow
                return False
            with _parquet_file(stored) as file:
                return METADATA in (file.metadata.metadata or {})
    except (pa.ArrowException, OSError) as error:
        raise LogError(f"{source.name}: is no parquet file, or is damaged: {_line(error)}") from error


def _open(path: FilePath) -> BufferedReader:
    try:
        return open_regular(path)
    except LogError as error:
        raise TraceError(str(error)) from error


def _line(error: Exception) -> str:
    return printable(" ".join(str(error).split()))


def _parquet_file(source: IO[bytes]) -> pq.ParquetFile:
    return pq.ParquetFile(source, thrift_string_size_limit=FOOTER_BYTES, thrift_container_size_limit=FOOTER_BYTES)


def write_csv(path: FilePath, fields: Fields) -> None:
    """Write the fields of a trace as a comment line, a header and one line per request."""
    table = _table(fields)
    spelled = pa.schema([(name, (COLUMNS | OPTIONAL)[name]) for name in table.column_names])
    with open(path, "wb") as file:
        file.write(COMMENT + _metadata(fields) + b"\n")
        with pacsv.CSVWriter(file, spelled) as writer:
            # In pieces: ten million spelled-out names at once would take gigabytes.
            for start in range(0, len(table), ROWS_AT_A_TIME):
                writer.write_table(table.slice(start, ROWS_AT_A_TIME).cast(spelled))


def read_csv(path: FilePath) -> Fields:
    """Read the fields that `write_csv` wrote; raises TraceError, naming the file."""
    columns = COLUMNS | OPTIONAL
    types = {name: pa.dictionary(pa.int32(), type_) if type_ == pa.string() else type_ for name, type_ in columns.items()}
    try:
        with _open(path) as file:
            metadata = _comment(file)
            table = pacsv.read_csv(
                file,
                parse_options=pacsv.ParseOptions(newlines_in_values=True),
                convert_options=pacsv.ConvertOptions(column_types=types, null_values=[], strings_can_be_null=False),
            )
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or _line(error)}") from error
    except pa.ArrowException as error:
        raise TraceError(f"{path}: is damaged: {_line(error)}") from error
    return _fields(path, table, metadata)


def _comment(file: IO[bytes]) -> bytes | None:
    line = file.readline()
    if line.startswith(COMMENT):
        return line[len(COMMENT) :]
    file.seek(0)
    return None


def _table(fields: Fields) -> pa.Table:
    arrays = {name: pa.array(fields[name]) for name in ("time", "cost", "session")}
    for column, names in (("key", "keys"), ("endpoint", "endpoints")):
        try:
            spelled = pa.array(fields[names], pa.string())
        except UnicodeEncodeError as error:
            raise TraceError(f"{names}: {error.object!r} is not valid Unicode and cannot be written") from error
        arrays[column] = pa.DictionaryArray.from_arrays(pa.array(fields[column].astype(np.int32)), spelled)
    if fields["status"] is not None:
        arrays["status"] = pa.array(fields["status"])
    if np.any(fields["grain"] != default_grain(fields["time"])):
        arrays["grain"] = pa.array(fields["grain"])
    return pa.table({name: arrays[name] for name in (*COLUMNS, *OPTIONAL) if name in arrays})


def _metadata(fields: Fields, absent: Sequence[str] = ()) -> bytes:
    rest = {"keys": fields["keys"], "endpoints": fields["endpoints"], "provenance": asdict(fields["provenance"])}
    return json.dumps({"version": VERSION, **rest, **({"absent": absent} if absent else {})}).encode("ascii")


def _fields(path: FilePath, table: pa.Table, metadata: bytes | None) -> Fields:
    try:
        if metadata is None or not set(COLUMNS) <= set(table.column_names):
            raise TraceError(f"{path}: was not written by a Trace; read other files with traffic.read_log")
        rest = json.loads(metadata)
        version = rest.pop("version")
        if version != VERSION:
            raise TraceError(f"{path}: has version {version} of the format, this program reads {VERSION}")
        provenance: Fields = {n: tuple(v) if isinstance(v, list) else v for n, v in rest["provenance"].items()}
        fields: Fields = {name: tuple(rest[name]) for name in ("keys", "endpoints")}
        fields |= {name: table[name].to_numpy() for name in ("time", "cost", "session")}
        optional = [name for name in OPTIONAL if name in table.column_names and name not in rest.get("absent", ())]
        fields |= {name: table[name].to_numpy() for name in optional}
        fields |= {"key": _codes(table["key"], fields["keys"])}
        fields |= {"endpoint": _codes(table["endpoint"], fields["endpoints"])}
        return {**fields, "provenance": Provenance(**provenance)}
    except json.JSONDecodeError as error:
        raise TraceError(f"{path}: is damaged: its list of names is cut") from error
    except TraceError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError, pa.ArrowException) as error:
        raise TraceError(f"{path}: is damaged: its rows and its list of names do not agree") from error


def _codes(column: pa.ChunkedArray, names: tuple[str, ...]) -> NDArray[np.int64]:
    """Give the index of each row's name in `names`; a name is looked up once per file, not once per row."""
    if not column.num_chunks:
        return np.zeros(0, np.int64)
    spelled = pa.array(names, pa.string())
    # A parquet file gives the whole list back with every chunk, and comparing lists is cheap: ten million
    # rows of a million keys were read in 3 s instead of 15 s.
    if all(chunk.dictionary.equals(spelled) for chunk in column.chunks):
        return np.concatenate([chunk.indices.to_numpy() for chunk in column.chunks]).astype(np.int64)
    column = column.unify_dictionaries()
    index = {name: i for i, name in enumerate(names)}
    place = np.array([index[name] for name in column.chunk(0).dictionary.to_pylist()], np.int64)
    return np.concatenate([place[chunk.indices.to_numpy()] for chunk in column.chunks])
