"""pg_hba.conf: who may connect to a limiter's database, and how. The first line that fits decides.

https://www.postgresql.org/docs/current/auth-pg-hba-conf.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from ratesim.recommendation.configuration.escaping import to_comment
from ratesim.recommendation.configuration.standby_conf import REPLICATOR
from ratesim.server_url import split_url
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    from ratesim.recommendation.configuration.store_size import StoreSize

__all__ = ["names", "pg_hba_conf"]

DATABASE, ROLE = "your_database", "your_role"  # in the place of a name that is not given, or has unusual characters
NODES, STANDBYS = "10.0.0.0/8", "10.0.0.0/8"  # of private networks


def pg_hba_conf(storage: str, title: str = "", size: StoreSize | None = None) -> str:
    """Write the lines for a storage URL of postgres, or of a hybrid over it."""
    database, role = names(storage)
    lines = [f'hostssl "{database}" "{role}" {NODES} scram-sha-256']
    if size is not None and size.replicas:
        lines.append(f"hostssl replication {REPLICATOR} {STANDBYS} scram-sha-256")
    return (
        to_comment(title)
        + to_comment(
            f"Put these lines before those that are wider, and your networks in the place of {NODES}. Connections are "
            "encrypted: the server needs ssl = on and a certificate, and the URL sslmode=verify-full. The role needs the "
            "rights at the end of schema.sql and no more."
        )
        + "".join(f"{line}\n" for line in lines)
    )


def names(storage: str) -> tuple[str, str]:
    """Return database and role of a URL, or what stands in their place."""
    parts = split_url(StorageURL.parse(storage).config.url)
    options = dict(parts.options)
    database = options.get("dbname") or unquote(parts.path.strip("/")) or DATABASE
    role = options.get("user") or parts.user or ROLE
    return _plain(database, DATABASE), _plain(role, ROLE)


def _plain(name: str, otherwise: str) -> str:
    """Return a name that means itself between double quotes in this file."""
    return name if re.fullmatch(r"\w[\w .-]{0,62}", name) and name.isprintable() else otherwise
