"""Writes docs/guarantees.md from tests/faults/guarantees.toml, which the tests of tests/faults measure.

python docs/write_guarantees.py          writes it (`make docs`)
python docs/write_guarantees.py --check  exits with 1 where it is stale (`make lint`)
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "guarantees.md"
TABLE = ROOT / "tests" / "faults" / "guarantees.toml"
HEAD = """# What holds under faults

Each fault has a table of what a caller sees, how long it waits, what is admitted too much, what is lost, and how long it
takes until all is well again. Every row is measured by a test (`pytest tests/faults`) on real servers. `make docs` writes
this page from `tests/faults/guarantees.toml`, against which the tests measure, so page and tests cannot differ.

- **waits at most**: the longest wait of a caller, in options of the storage.
- **admitted too much**: cost admitted above the limit in one period of a fixed window, at most. Other algorithms add what
  [bounds.md](bounds.md) says of them.
- **lost**: admitted cost that the store does not count in the end, at most.
- **in vain**: cost that the store counts and that no caller was told to be admitted, at most.
- **well within**: seconds from the end of the fault until every node decides as before, in options of the storage.
- A storage in memory has no server: it is in the tables of the faults that it can have.
- **eventual**, **session**, **strong**, **lease** are the hybrid's `consistency`, with `write = "write_back"`
  ([hybrid.md](hybrid.md)); the second word is `on_store_failure`.

The letters of the bounds:

"""
NAMES = {
    "memory": "memory",
    "disk": "memory, `persist_to_disk`",
    "redis": "Redis",
    "cluster": "Redis Cluster",
    "sentinel": "Redis with Sentinel",
    "postgres": "PostgreSQL",
    "standby": "PostgreSQL with a synchronous standby",
    "hybrid": "hybrid",
}
COLUMNS = {
    "waits": "waits at most",
    "over": "admitted too much",
    "lost": "lost",
    "vain": "in vain",
    "well": "well within",
}


def lines() -> Iterator[str]:
    """Yield the page line by line."""
    table = tomllib.loads(TABLE.read_text("utf-8"))
    yield from HEAD.rstrip().splitlines()
    yield ""
    for letter, meaning in table["letters"].items():
        yield f"- `{letter}`: {meaning}."
    for letter, meaning in table["times"].items():
        yield f"- `{letter}`: `{meaning}`, in which the breaker lets a probe through and the client connects."
    for fault in table["faults"].values():
        columns = [name for name in COLUMNS if any(name in row for row in fault["rows"])]
        yield from ("", f"## {fault['title']}", "", fault["what"], "")
        heads = ["backend", "policy", "a caller sees", *(COLUMNS[name] for name in columns)]
        yield f"| {' | '.join(heads)} |"
        yield "|---" * len(heads) + "|"
        for row in fault["rows"]:
            cells = [", ".join(NAMES[store] for store in row["stores"]), _policy(row), _seen(row)]
            yield f"| {' | '.join([*cells, *(_bound(row, name) for name in columns)])} |"


def _policy(row: dict[str, Any]) -> str:
    options = f"; `{row['options']}`" if "options" in row else ""
    return _consistency(row) + options


def _consistency(row: dict[str, Any]) -> str:
    if row["policies"] == ["plain"]:
        return "without a hybrid" if set(row["stores"]) & {"redis", "cluster", "sentinel", "postgres", "standby"} else ""
    fallbacks = [] if len(row["fallbacks"]) in (0, 3) else row["fallbacks"]
    return "; ".join([", ".join(row["policies"]), *([", ".join(fallbacks)] if fallbacks else [])])


def _seen(row: dict[str, Any]) -> str:
    errors = ", ".join(f"`{name}`" for name in row.get("errors", []))
    return f"{row['sees']} ({errors})" if errors else str(row["sees"])


def _bound(row: dict[str, Any], name: str) -> str:
    if name not in row:
        return ""
    expression = row[name].replace(" * ", " ")
    return expression if expression == "0" else f"`{expression}`"


def main() -> None:
    """Write the page, or with --check compare it."""
    page = "\n".join(lines()) + "\n"
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page, "utf-8")
    elif not PAGE.is_file() or PAGE.read_text("utf-8") != page:
        raise SystemExit("docs/guarantees.md is stale: run `make docs`")


if __name__ == "__main__":
    main()
