"""Results on disk: a directory of parquet files, by the key of the job.

A job's row is a file of its own, written whole or not at all as soon as there is one: a sweep that is killed loses only what
it was running. Now and then many of these files are merged.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ratesim.atomic_write import atomic_write
from ratesim.errors import RatesimError

__all__ = ["ResultStore", "ResultStoreError", "delete", "read_rows"]

MANY = 256  # files that are merged into one; each takes about 15 kB, however short its row


class ResultStoreError(RatesimError):
    """A file of results cannot be read: one line that names it and the remedy."""


class ResultStore:
    """The results in a directory, which is created with the first result.

    `parts/` holds the rows of all jobs that were ever finished here, and `results.parquet` the last table. Sweeps may share
    a directory, one after the other or at the same time: equal keys have equal rows.
    """

    def __init__(self, folder: Path) -> None:
        self.table = folder / "results.parquet"
        self._parts = folder / "parts"
        if folder.exists() and not folder.is_dir():
            raise ResultStoreError(f"{folder}: is a file; name a directory for the results")
        self._rows = self._read()

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._rows[key]

    def add(self, key: str, row: dict[str, Any]) -> None:
        """Write a row, which then survives a kill -9 of this process."""
        self._write(key, pa.Table.from_pylist([{"key": key, **row}]))
        self._rows[key] = row
        if len(self._files()) >= MANY:
            self._merge()

    def close(self, table: pd.DataFrame) -> None:
        """Write the table, whole or not at all."""
        with atomic_write(self.table) as partial:
            table.to_parquet(partial)

    def _files(self) -> list[Path]:
        return sorted(self._parts.glob("*.parquet"))

    def _write(self, name: str, table: pa.Table) -> None:
        with atomic_write(self._parts / f"{name}.parquet") as partial:
            pq.write_table(table, partial)

    def _read(self) -> dict[str, dict[str, Any]]:
        while True:
            try:
                tables = [_table(path) for path in self._files()]
            except FileNotFoundError:  # another sweep has merged some meanwhile: what was in them is in a new file
                continue
            return {key: row for table in tables for key, row in _rows(table).items()}

    def _merge(self) -> None:
        """Merge the files. The old ones go after the new one is there, so every reader finds every row."""
        try:
            files = self._files()
            merged = pa.concat_tables([_table(path) for path in files], promote_options="permissive")
        except FileNotFoundError:  # another sweep is at it
            return
        name = hashlib.sha256("".join(path.name for path in files).encode()).hexdigest()
        self._write(f"merged-{name}", merged)
        for path in files:
            path.unlink(missing_ok=True)


def read_rows(file: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of a table by its column `key`; none without such a column or table. Raises ResultStoreError."""
    table = _table(file) if file.exists() else pa.table({})
    return _rows(table) if "key" in table.column_names else {}


def _rows(table: pa.Table) -> dict[str, dict[str, Any]]:
    return {row.pop("key"): row for row in table.to_pylist()}


def delete(folder: Path) -> None:
    """Remove what a `ResultStore` has written there, and the directory unless other files are in it."""
    for path in [*folder.glob("parts/*.parquet"), *folder.glob("parts/.*.partial"), folder / "results.parquet"]:
        path.unlink(missing_ok=True)
    for directory in (folder / "parts", folder):
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()


def _table(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path).read()
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ResultStoreError(f"{path}: is no whole parquet file; delete it, and its runs are made again") from error
