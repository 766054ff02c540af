"""`Server`: where a server answers, what it is, and whether it was started here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["Server", "redact_passwords"]


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes:
        url: where it is, as `open_storage` takes it; may hold a password where `embedded` is false.
        kind: "valkey", "valkey-cluster", "postgres" or, where there is no Valkey wheel, "fakeredis"; where
            `embedded` is false also "redis" or "redis-cluster".
        version: the server's own, e.g. "18.4".
        embedded: whether it was started here, and stops with its context manager.
        pids: its process ids; empty where it has none of its own.
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
    """`text` with the passwords of URLs in it starred out; a malformed URL loses more than its password."""
    text = re.sub(r'(/|\b)([^:@/\s"]*):(?!//)\S*@', r"\1\2:***@", text)
    return re.sub(r"(?i)(password=)[^&\s]*", r"\1***", text)
