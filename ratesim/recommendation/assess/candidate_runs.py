"""The rows of a table of runs by their candidate: all at once, since pandas takes as long for one row as for a hundred."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["runs_by_candidate"]


def runs_by_candidate(results: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each candidate, in the order of the table."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in results.to_dict("records"):
        found.setdefault(str(row["candidate"]), []).append({str(name): value for name, value in row.items()})
    return found
