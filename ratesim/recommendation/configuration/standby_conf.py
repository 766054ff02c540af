"""What a PostgreSQL with standbys needs: its part of postgresql.conf, and the script that makes a standby.

What the settings mean: https://www.postgresql.org/docs/current/runtime-config-replication.html and
https://www.postgresql.org/docs/current/warm-standby.html.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim.recommendation.assess.resource_needs import SLOT_LOG
from ratesim.recommendation.configuration.escaping import to_comment

if TYPE_CHECKING:
    from ratesim.recommendation.configuration.store_size import StoreSize
    from ratesim.storage import PostgresStorageConfig

__all__ = ["PRIMARY", "REPLICATOR", "create_standby", "standby_names", "standby_parts"]

PRIMARY, PORT = "primary.example", 5432  # stands in the place of the primary's host
REPLICATOR = "replicator"  # the role by which a standby asks for the log
SENDERS = 10  # the default, of which a standby takes one, and one more while it is copied
KEPT = f"{SLOT_LOG / 1024**3:.0f}GB"


def standby_names(size: StoreSize) -> str:
    """Return the value of `synchronous_standby_names`: any one standby; "" where answers wait for none."""
    if not size.standby:
        return ""
    return f"ANY 1 ({', '.join(f'standby{number}' for number in range(1, size.replicas + 1))})"


def standby_parts(config: PostgresStorageConfig, size: StoreSize) -> list[tuple[str, str]]:
    """Return reasons and settings of a server that has standbys, or is one; none without standbys."""
    if not size.replicas:
        return []
    senders = max(SENDERS, 2 * size.replicas + 2)
    parts = [
        (
            "A standby may become the primary, so all members have the same file. wal_log_hints lets pg_rewind turn a "
            "primary that was replaced into a standby.",
            f"wal_level = replica\nhot_standby = on\nwal_log_hints = on\nmax_wal_senders = {senders}\n"
            f"max_replication_slots = {senders}",
        ),
        (
            f"A standby that is away finds the log that it has missed, up to {KEPT}; behind that it needs a new copy. "
            "Without a bound it would fill the primary's disk.",
            f"max_slot_wal_keep_size = {KEPT}",
        ),
        (
            "Queries on a standby hold no dead version back on the primary. They may be canceled instead.",
            "hot_standby_feedback = off",
        ),
        (_waiting(config, size), f"synchronous_standby_names = '{standby_names(size)}'"),
    ]
    if config.unlogged:
        parts.append(
            ("The tables are unlogged, so no standby has their rows: after a failover every key begins afresh.", "")
        )
    return parts


def _waiting(config: PostgresStorageConfig, size: StoreSize) -> str:
    if not size.standby:
        return (
            "No answer waits for a standby. It is a little behind, and what it has not received is admitted again after a "
            "failover."
        )
    until = {
        "remote_write": "has received it",
        "on": "has it on its disk",
        "remote_apply": "has applied it, so that a query there finds it",
    }[size.standby]
    said = f"A decision that admits is answered when a standby {until} (synchronous_commit = {config.synchronous_commit})."
    if size.replicas == 1:
        return f"{said} While the only standby is away no such decision is answered: a second one keeps them going."
    return f"{said} Any one of {size.replicas} is enough, so one may be away."


def create_standby(size: StoreSize, title: str = "") -> str:
    """Write a shell script that copies the primary, so that the copy starts as its standby."""
    return (
        "#!/bin/sh\n"
        + to_comment(title)
        + to_comment(
            f"Makes standby number $1 of {size.replicas}, on its own machine, in another zone than the primary, as the "
            f"account of PostgreSQL. PGDATA names its empty data directory. Put your primary in the place of {PRIMARY}. The "
            "copy starts as a standby, with the postgresql.conf of the primary; its name is that of its slot, and stands in "
            "synchronous_standby_names where answers wait for it."
        )
        + to_comment(
            f"Once, on the primary: CREATE ROLE {REPLICATOR} REPLICATION LOGIN; its password belongs into ~/.pgpass here, "
            "and its line into pg_hba.conf there."
        )
        + "set -eu\n"
        + 'number="${1:?the number of the standby, from 1}"\n'
        + ': "${PGDATA:?the empty data directory of the standby}"\n\n'
        + 'pg_basebackup --pgdata="$PGDATA" --write-recovery-conf --checkpoint=fast \\\n'
        + '  --create-slot --slot="standby$number" \\\n'
        + f'  --dbname="host={PRIMARY} port={PORT} user={REPLICATOR} application_name=standby$number"\n'
    )
