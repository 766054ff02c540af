"""What `trace describe` says of a trace, as a dict for JSON and as lines for a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ratesim.formatting import format_amount, format_count, format_length, format_percent, format_seconds, shorten

if TYPE_CHECKING:
    from traffic import Provenance, Trace

__all__ = ["counted", "described", "text"]

TOP = 10  # keys and endpoints


def described(trace: Trace, key: str | None = None, show_keys: bool = False) -> dict[str, Any]:
    """Describe a trace with at least one request.

    Parameters
    ----------
    trace
        As `read_log` returns it.
    key
        The field of its keys, as it was asked for.
    show_keys
        Whether keys and lost lines are shown in full.
    """
    from ratesim.pages.your_log.arrivals import dispersion
    from traffic.key_labels import key_label, line_shape

    origin, summary = trace.provenance, trace.summary()
    counts = np.bincount(trace.key, minlength=len(trace.keys))
    top = np.argsort(-counts, kind="stable")[:TOP]
    places = np.bincount(trace.endpoint, minlength=len(trace.endpoints))
    grains, of_grain = np.unique(trace.grain, return_counts=True)
    window = max(1.0, float(grains[-1]))  # a shorter one would count what coarse stamps put together
    statuses: dict[str, int] = {}
    if trace.status is not None:
        found, of_status = np.unique(trace.status, return_counts=True)
        named = (str(code) if code else "none" for code in found.tolist())
        statuses = dict(zip(named, of_status.tolist(), strict=True))
    return {
        "source": Path(origin.source).name,
        "format": origin.format,
        "counted": counted(trace.provenance),
        "lines": origin.lines,
        "requests": len(trace),
        "lost": origin.skipped,
        "ignored": origin.ignored,
        "examples": [line if show_keys else line_shape(line) for line in origin.examples],
        "assumed": list(origin.assumed),
        "notes": list(origin.notes),
        "first": _iso(trace.time[0]),
        "last": _iso(trace.time[-1]),
        "seconds": trace.duration,
        "grain": {f"{seconds:g}": int(n) for seconds, n in zip(grains.tolist(), of_grain.tolist(), strict=True)},
        "requests_per_second": summary["mean_rate"] if np.isfinite(summary["mean_rate"]) else None,
        "busiest": {"seconds": window, "requests": len(trace.busiest(window))},
        "dispersion": {f"{each.seconds:g}": each.index for each in dispersion(trace.time) if each.seconds >= grains[-1]},
        "keys": int(np.count_nonzero(counts)),
        "top_keys": [
            {"key": name if show_keys else key_label(name, key), "requests": int(counts[each])}
            for each, name in ((int(each), trace.keys[int(each)]) for each in top)
            if counts[each]
        ],
        "sessions": len(np.unique(trace.session)),
        "endpoints": {
            trace.endpoints[int(each)]: int(places[each])
            for each in np.argsort(-places, kind="stable")[:TOP]
            if places[each] and trace.endpoints[int(each)] != "-"
        },
        "statuses": statuses,
        "cost": {"mean": float(trace.cost.mean()), "most": float(trace.cost.max())},
    }


def counted(origin: Provenance) -> str:
    """Say what became of the lines of a log."""
    if not origin.lines:
        return "of a trace that was read from no log"
    lines = format_count(origin.lines, "line")
    return f"{lines} = {origin.parsed:,} requests + {origin.skipped:,} lost + {origin.ignored:,} no request"


def text(found: dict[str, Any]) -> list[str]:
    """Write a description as lines."""
    n = found["requests"]
    missing = f"{found['lost']:,} of {found['lines']:,} lines could not be read and are missing from what follows"
    rows = [
        *([("lost", missing)] if found["lost"] > found["lines"] / 100 else []),
        ("read", f"{found['source']}{' as ' if found['format'] else ''}{found['format']}"),
        ("lines", found["counted"]),
        *(("lost", line) for line in found["examples"]),
        *(("assumed", sentence) for sentence in found["assumed"]),
        *(("note", note) for note in found["notes"]),
        ("time", f"{found['first']} to {found['last']}, {format_length(found['seconds'])}"),
        ("stamps", "; ".join(_stamps(float(seconds), count, n) for seconds, count in found["grain"].items())),
        ("rate", _rate(found)),
        *([("burstiness", _bursts(found["dispersion"]))] if found["dispersion"] else []),
        ("keys", f"{found['keys']:,}, in {format_count(found['sessions'], 'session')}"),
        *(("", f"{each['requests']:>12,}  {format_percent(each['requests'] / n):>7}  {shorten(each['key'])}")
          for each in found["top_keys"]),
        *(("endpoint" if not place else "", f"{count:>12,}  {format_percent(count / n):>7}  {shorten(name)}")
          for place, (name, count) in enumerate(found["endpoints"].items())),
        ("status", ", ".join(f"{code}: {count:,}" for code, count in found["statuses"].items()) or "in no line"),
        ("cost", f"{format_amount(found['cost']['mean'])} in the mean, at most {format_amount(found['cost']['most'])}"),
    ]  # fmt: skip
    return [f"{name:<12}{value}" for name, value in rows]


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(float(seconds), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _stamps(seconds: float, count: int, requests: int) -> str:
    whose = "all" if count == requests else format_percent(count / requests)
    return f"{whose} exact to {format_seconds(seconds)}" if seconds else f"{whose} exact"


def _rate(found: dict[str, Any]) -> str:
    mean = found["requests_per_second"]
    lead = f"{format_amount(mean)} requests per second, " if mean is not None else ""
    window = found["busiest"]["seconds"]
    when = "second" if window == 1 else format_length(window)
    return f"{lead}{format_count(found['busiest']['requests'], 'request')} in the busiest {when}"


def _bursts(dispersion: dict[str, float]) -> str:
    listed = ", ".join(f"{format_amount(index)} in {seconds} s" for seconds, index in dispersion.items())
    return f"{listed} (variance of the counts over their mean; 1 where arrivals are independent)"
