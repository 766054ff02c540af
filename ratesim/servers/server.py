"""`Server`: where a server answers, what it is, and whether it was started here; `Member`: one of its processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ratesim.safe_text import redact

__all__ = ["Member", "Server"]


@dataclass(frozen=True)
class Member:
    """A process of a server.

    Attributes
    ----------
    role : str
        "primary", "replica" or "sentinel"; of PostgreSQL "primary" or "standby"; what it was when the server started.
    port : int
        Of loopback; of PostgreSQL a part of its socket's name.
    pid : int
        Its process id.
    url : str
        Its own address, as redis-py or libpq takes it; may hold a password.
    shard : int or None
        Members of one number hold the same data; None for a sentinel.
    """

    role: str
    port: int
    pid: int
    url: str = field(repr=False)
    shard: int | None = 0


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes
    ----------
    url : str
        Its address, as `open_storage` takes it; may hold a password.
    kind : str
        "valkey", "valkey-cluster", "valkey-sentinel", "postgres" or, where there is no Valkey wheel, "fakeredis"; where
        `embedded` is false also "redis", "redis-cluster" or "redis-sentinel".
    version : str
        The server's own, such as "18.4".
    embedded : bool
        Whether it was started here, and stops with its context manager.
    pids : tuple[int, ...]
        Its process ids; empty where it has none of its own.
    how_ended : Callable[[], str | None]
        Says how it ended, such as "was ended by SIGKILL"; None while it runs, and always where it was not started here. A
        server of several members has ended when all members of a shard have, or all its sentinels.
    members : tuple[Member, ...]
        Its processes one by one; empty for fakeredis, and where it was not started here.
    """

    url: str = field(repr=False)
    kind: str
    version: str
    embedded: bool
    pids: tuple[int, ...] = ()
    how_ended: Callable[[], str | None] = field(default=lambda: None, repr=False, compare=False)
    members: tuple[Member, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.version}"

    @property
    def safe_url(self) -> str:
        """The URL without its password, to print and to log."""
        return redact(self.url)
