"""`Server`: where a server answers, what it is, and whether it was started here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ratesim.safe_text import redact

__all__ = ["Server"]


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes
    ----------
    url : str
        Its address, as `open_storage` takes it; may hold a password.
    kind : str
        "valkey", "valkey-cluster", "postgres" or, where there is no Valkey wheel, "fakeredis"; where `embedded` is false
        also "redis" or "redis-cluster".
    version : str
        The server's own, such as "18.4".
    embedded : bool
        Whether it was started here, and stops with its context manager.
    pids : tuple[int, ...]
        Its process ids; empty where it has none of its own.
    how_ended : Callable[[], str | None]
        Says how it ended, such as "was ended by SIGKILL"; None while it runs, and always where it was not started here.
    """

    url: str = field(repr=False)
    kind: str
    version: str
    embedded: bool
    pids: tuple[int, ...] = ()
    how_ended: Callable[[], str | None] = field(default=lambda: None, repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.version}"

    @property
    def safe_url(self) -> str:
        """The URL without its password, to print and to log."""
        return redact(self.url)
