"""`read_log` turns logs into a `Trace`: any access log, csv, JSON and parquet, plain or compressed, one file or many.

    source -> blocks of lines -> wrapper peeled -> fields -> roles -> requests -> trace

Blocks are cut and read by several threads where the format allows it, and collected in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from traffic.inputs.files import FilePath, LogError, Progress
from traffic.trace import Trace

if TYPE_CHECKING:
    from traffic.anonymize import Anonymizer
    from traffic.times.timestamps import TimeUnit

__all__ = ["LogError", "read_log"]

MAX_BYTES = 8 << 30


def read_log(
    path: FilePath | Sequence[FilePath],
    *,
    key: str | None = None,
    format: str | None = None,
    log_format: str | None = None,
    time: str | None = None,
    time_unit: TimeUnit | None = None,
    time_zone: str | None = None,
    cost: str | None = None,
    status: str | None = None,
    session: str | None = None,
    endpoint: str | None = None,
    anonymize: Anonymizer | None = None,
    max_bytes: int = MAX_BYTES,
    lines: int | None = None,
    progress: Progress | None = None,
) -> Trace:
    """Read logs as one trace, with a request for each line that is one.

    Times are as stamped, with their zones applied; `Trace.grain` tells how coarse they are. Requests are sorted by time.
    Endpoints are "METHOD /first-segment"; after the first 256 distinct ones every further one is
    "other". Sessions are pairs of client and user agent where a log has both, else keys. An empty field of the key is "-".
    Every request is demand, whatever its answer: a request that was answered 429 is in the trace like any other, and the
    provenance counts them. A 429 without a cost gets the mean cost of its key's requests that were not refused.

    Nothing is lost or guessed in silence: the provenance has the counts (`lines == parsed + skipped + ignored`), the first
    lines that did not parse, and a sentence for each thing that was assumed.

    Parameters
    ----------
    path : FilePath or Sequence[FilePath]
        A file, a glob, a directory, an archive, "-" for standard input, or several, which are merged by time. A trace that
        was written by `Trace.to_parquet` or `to_csv` is read as it is.
    key : str, optional
        What a limit counts by: a role (client, user, endpoint, method, path, session, agent, referrer), a field of the log,
        "xff" (X-Forwarded-For, its first address; "xff:last", "xff:-2"), several joined ("client+endpoint"), an address with
        the length of its network ("client/24"), or "none": all requests have the key "all". None takes the client.
    format : str, optional
        A name in FORMATS. None chooses the one that fits most of the first lines.
    log_format : str, optional
        The line of the server's configuration that says how a line is written (nginx `log_format`, Apache `LogFormat`,
        Envoy), or "@nginx.conf:name" for one in a file. Every variable is a field.
    time : str, optional
        The field of the time, or two joined by a plus ("date+time").
    time_unit : {"s", "ms", "us", "ns", "iso", "excel", "dmy", "mdy", "ymd"}, optional
        Its unit since the epoch, "iso" for text, "excel" for days of Excel, "dmy", "mdy" or "ymd" for the order in
        "10/05/24". None decides by the first values.
    time_zone : str, optional
        Of stamps without one: "Europe/Berlin" or "+02:00". UTC unless given.
    cost : str, optional
        The cost of a request: a field, or + - * / over several and numbers, such as "ContextTokens+GeneratedTokens". None is
        1 each.
    status : str, optional
        The field of the HTTP status.
    session : str, optional
        What makes a session, as `key` is written.
    endpoint : str, optional
        The field of the endpoint.
    anonymize : Anonymizer, optional
        Replaces the names of keys and endpoints.
    max_bytes : int
        Refuse compressed logs that inflate to more bytes. Plain ones may have any size.
    lines : int, optional
        Read about so many lines of each source: to the end of the block that the last of them is in. None reads all.
    progress : Progress, optional
        Called now and then with the bytes done and all bytes, as they are stored.

    Returns
    -------
    Trace
        The requests, sorted by time.

    Raises
    ------
    LogError
        A log cannot be opened, is empty, damaged or too large, is of no known format, has no line that parses, or lacks a
        field that was asked for or is needed (it names those that there are); or, with the number of the line, a cost is
        negative or not finite. The message is one line that names the file and the remedy.
    """
    # Here, because they bring pandas and pyarrow.
    from traffic.formats.collector import Collector
    from traffic.formats.field_selection import FieldSelection
    from traffic.inputs.sources import Sources
    from traffic.reading import Reading, only_trace
    from traffic.tables import is_trace

    reading = Reading(
        FieldSelection(
            key=key,
            time=time,
            time_unit=time_unit,
            time_zone=time_zone,
            cost=cost,
            status=status,
            session=session,
            endpoint=endpoint,
        ),
        format=format,
        log_format=log_format,
        anonymize=anonymize,
        lines=lines,
    )
    collector = Collector()
    found = Sources(path, max_bytes, progress)
    for source in found:
        if is_trace(source):
            return only_trace(source, found, reading)
        reading.collect(source, collector)
    reading.left_out += found.left_out
    return reading.trace(collector)
