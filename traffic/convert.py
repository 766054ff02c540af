"""`convert_log` writes logs as the parquet file of one trace, block by block: memory does not grow with the log."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from traffic.formats.collector import Collector, RowColumns
from traffic.inputs.files import FilePath, LogError, Progress
from traffic.inputs.sources import Sources
from traffic.logs import MAX_BYTES
from traffic.provenance import Provenance
from traffic.reading import Reading, only_trace
from traffic.tables import AS_THEY_ARE, Rename, TraceWriter, is_trace

__all__ = ["convert_log"]


def convert_log(
    path: FilePath | Sequence[FilePath],
    out: FilePath,
    reading: Reading,
    *,
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
) -> Provenance:
    """Read logs, and write them as a trace: what `Trace.from_parquet(out)` then reads is what `read_log` returns.

    Rows are written in the order of the logs, about a million at a time, and sorted as they are read.

    Parameters
    ----------
    path : FilePath or Sequence[FilePath]
        As of `read_log`.
    out : FilePath
        The parquet file; it is there only once it is complete.
    reading : Reading
        How the logs are read.
    max_bytes, progress
        As of `read_log`.

    Returns
    -------
    Provenance
        What was read, lost and assumed.

    Raises
    ------
    LogError
        As `read_log`; or a cost is asked for and a request answered 429 has none, whose mean is known only at the end.
    """
    target = Path(out)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with TraceWriter(part, _renaming(reading)) as writer:
            collector = _Streamed(writer)
            found = Sources(path, max_bytes, progress)
            for source in found:
                if is_trace(source):
                    trace = only_trace(source, found, reading)
                    trace.to_parquet(part)
                    part.replace(target)
                    return trace.provenance
                reading.collect(source, collector)
            reading.left_out += found.left_out
            collector.note_counts()
            provenance = collector.provenance(reading.source, reading.assumed, reading.formats)
            writer.finish(collector.keys, collector.endpoints, provenance)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return provenance


def _renaming(reading: Reading) -> Rename:
    anonymize = reading.anonymize
    if anonymize is None:
        return AS_THEY_ARE
    return Rename(anonymize.names, lambda names: [anonymize.endpoint(name) for name in names], anonymize.provenance)


class _Streamed(Collector):
    """Writes each block, and keeps nothing but the names."""

    def __init__(self, writer: TraceWriter) -> None:
        super().__init__()
        self._writer = writer

    def take(self, columns: RowColumns) -> None:
        if np.isnan(columns.cost).any():
            problem = "a request answered 429 has no cost, and the mean of its key is not known before the end"
            raise LogError(
                f"{problem}; leave the cost out, or read the log in memory (traffic.read_log) and write its trace"
            )
        self._writer.write(columns._asdict(), self.keys, self.endpoints)
