"""What survives a failure: the persistence of a storage URL."""

from __future__ import annotations

from typing import Literal
from urllib.parse import parse_qsl, urlsplit

__all__ = ["LEVELS", "Persistence", "persistence"]

Persistence = Literal["none", "session", "durable"]

LEVELS: tuple[Persistence, ...] = ("none", "session", "durable")


def persistence(storage: str) -> Persistence:
    """Return what survives of the state behind a storage URL.

    `session`: the state outlives the API node that wrote it, as in Redis and in a hybrid over it (an eventual hybrid loses
    at most what was not flushed). `durable`: the state outlives the store too. PostgreSQL is not durable with an unlogged
    table or with `synchronous_commit=off`, nor is what an eventual hybrid has not flushed.
    """
    scheme, options = urlsplit(storage).scheme, dict(parse_qsl(urlsplit(storage).query))
    if scheme == "memory":
        return "none"
    if not scheme.removeprefix("hybrid+").startswith("postgres"):
        return "session"
    weak = options.get("unlogged", "false").lower() in ("true", "1", "yes") or options.get("synchronous_commit") == "off"
    # What is out on lease counts as spent in L2, so a lease loses nothing that was admitted.
    behind = scheme.startswith("hybrid+") and options.get("consistency", "eventual") in ("eventual", "session")
    return "session" if weak or behind else "durable"
