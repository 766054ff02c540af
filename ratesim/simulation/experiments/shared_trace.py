"""A trace that several processes have in memory once: each column is a file, and every process maps it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from traffic import Provenance, Trace

__all__ = ["map_trace", "write_trace"]

COLUMNS = ("time", "key", "cost", "session", "endpoint", "status", "grain")
ABOUT = "about.json"


def write_trace(trace: Trace, folder: Path) -> None:
    """Write a trace into a folder, which is made for it. Columns that are one value, or another column, are written so."""
    folder.mkdir()
    columns = {name: column for name in COLUMNS if (column := getattr(trace, name)) is not None}
    if np.shares_memory(trace.session, trace.key):
        del columns["session"]
    for name, column in columns.items():
        np.save(folder / f"{name}.npy", column if any(column.strides) else column[:1])
    about = {"rows": len(trace), "keys": trace.keys, "endpoints": trace.endpoints, "provenance": asdict(trace.provenance)}
    (folder / ABOUT).write_text(json.dumps(about), "ascii")


def map_trace(folder: Path) -> Trace:
    """Return the trace that `write_trace` wrote, its columns mapped and not read."""
    about = json.loads((folder / ABOUT).read_text("ascii"))
    columns = {}
    for name in COLUMNS:
        file = folder / f"{name}.npy"
        if file.is_file():
            mapped = np.asarray(np.load(file, mmap_mode="r"))
            columns[name] = mapped if len(mapped) == about["rows"] else np.broadcast_to(mapped, about["rows"])
    origin: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in about["provenance"].items()
    }
    return Trace(keys=about["keys"], endpoints=about["endpoints"], provenance=Provenance(**origin), **columns)
