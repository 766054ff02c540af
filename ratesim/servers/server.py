"""`Server`: where a server answers, what it is, and whether it was started here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["Server", "redact_passwords"]


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes
    ----------
    url : str
        Its address, as `open_storage` takes it; may hold a password where `embedded` is false.
    kind : str
        "valkey", "valkey-cluster", "postgres" or, where there is no Valkey wheel, "fakeredis"; where `embedded` is false
        also "redis" or "redis-cluster".
    version : str
        The server's own, such as "18.4".
    embedded : bool
        Whether it was started here, and stops with its context manager.
    pids : tuple[int, ...]
        Its process ids; empty where it has none of its own.
    """

    url: str = field(repr=False)
    kind: str
    version: str
    embedded: bool
    pids: tuple[int, ...] = ()

    @property
    def safe_url(self) -> str:
        """The URL without its password, to print and to log."""
        return redact_passwords(self.url)


def redact_passwords(text: str) -> str:
    """Replace the passwords of URLs in a text by stars; a malformed URL loses more than its password."""
    text = re.sub(r'(/|\b)([^:@/\s"]*):(?!//)\S*@', r"\1\2:***@", text)
    return re.sub(r"(?i)(password=)[^&\s]*", r"\1***", text)
